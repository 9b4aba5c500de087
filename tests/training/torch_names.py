"""Names of parameters in the original code of SimMIM, Swin and the depth network, as ours."""

import re

# Applied one after the other.
_REPLACEMENTS = [
    (r"\.", "/"),
    (r"\blayers/(\d+)/", r"stage\1/"),
    (r"downsample/", "merging/"),
    (r"patch_embed/proj/", "patch_embed/"),
    (r"patch_embed/norm/", "patch_norm/"),
    (r"(absolute_)?pos_embed$", "pos_embed/table"),
    (r"(rel_pos_bias/)?relative_position_bias_table$", "relative_position_bias/table"),
    (r"(cpb|rpe)_mlp/0/", "position_mlp/fc1/"),
    (r"(cpb|rpe)_mlp/2/", "position_mlp/fc2/"),
    (r"decoder/0/", "decoder/"),
    (r"conv_layers/([147])/", r"conv_norm\1/"),
    (r"(norm\d?)/weight$", r"\1/scale"),
    (r"/weight$", "/kernel"),
]


def our_name(name: str) -> str:
    """Path of ours, joined by "/"."""
    for pattern, replacement in _REPLACEMENTS:
        name = re.sub(pattern, replacement, name)
    return name
