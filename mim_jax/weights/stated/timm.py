"""What a `config.json` of timm's states: an architecture by name, what differs from it, and how images are made."""

import re
from collections.abc import Collection
from typing import Any

from mim_jax.weights.stated.names import is_rotary
from mim_jax.weights.stated.statements import Configuration, Reader, Statements

FILE = "config.json"

ARCHITECTURES: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"vit_base_patch16_gap_224", {"num_heads": 16}),
    (r"vit_giantopt_patch16_siglip_.*", {"num_heads": 16, "activation": "gelu_tanh"}),
    (r"vit_so400m_patch16_siglip_.*", {"activation": "gelu_tanh"}),
    (r"vit_base_patch32_siglip_.*", {"activation": "gelu_tanh"}),
    (r"vit_large_patch16_siglip_(gap_)?512", {"activation": "gelu_tanh"}),
    (r"vit_gigantic_patch14_.*", {"num_heads": 16}),
    (r"vit_.*_clip_quickgelu_.*", {"activation": "quick_gelu"}),
    (r"vit_.*_clip_.*", {"norm_epsilon": 1e-5}),
    (r"beit3_.*", {"norm_epsilon": 1e-5}),
    (r"test_vit2?", {"num_heads": 2}),
    (r"test_vit[34]", {"num_heads": 3}),
)
"""Names of architectures, as regular expressions, to what they have that is not usual for their width and layout."""

EPSILON = 1e-6  # of timm's Vision Transformers but for the table's; its Swins have 1e-5

ARGUMENTS = {
    "num_heads": "num_heads",
    "img_size": "image_size",
    "patch_size": "patch_size",
    "in_chans": "channels",
    "embed_dim": "width",
    "depth": "depth",
    "depths": "depths",
    "mlp_ratio": "mlp_ratio",
    "init_values": "layer_scale",
    "class_token": "class_token",
    "reg_tokens": "registers",
    "qk_norm": "query_key_norm",
    "window_size": "window",
    "drop_path_rate": "drop_path_rate",
}
"""Argument of an architecture to what it states."""

SWITCHES = {"qkv_bias": "qkv_bias", "final_norm": "final_norm"}

HARMLESS = (
    "num_classes", "global_pool", "fc_norm", "drop_rate", "pos_drop_rate", "proj_drop_rate", "attn_drop_rate",
    "patch_drop_rate", "weight_init", "fix_init", "head_init_scale", "dynamic_img_size", "dynamic_img_pad",
    "strict_img_size", "no_embed_class", "always_partition", "ref_feat_shape", "use_abs_pos_emb", "use_rel_pos_bias",
    "use_shared_rel_pos_bias", "pos_embed", "ape", "pretrained_window_sizes", "act_layer", "qkv_bias", "final_norm",
    "scale_mlp", "device", "dtype",
)  # fmt: skip
"""Arguments that arrays show as well, that are read apart, or that change nothing of what is computed."""

USUAL = {
    "norm_layer": (None, "", "layernorm", "LayerNorm"),
    "block_fn": (None, ""),
    "mlp_layer": (None, ""),
    "embed_layer": (None, ""),
}
"""Argument to the values with which it changes nothing."""

READOUTS = {"token": "class_token", "avg": "mean"}
"""timm's pooling to how a classifier reads the encoder."""


def is_timm(config: Configuration) -> bool:
    """Whether a `config.json` is timm's."""
    return isinstance(config.get("architecture"), str) or "pretrained_cfg" in config


def read_timm(config: Configuration, family: str, settled: Collection[str] = ()) -> Statements:
    """What is stated but for the keys `settled`; raises InputError for what cannot be read or kept."""
    reader = Reader(FILE, family, settled)
    architecture = config.get("architecture") or ""
    if not isinstance(architecture, str):
        reader.refuse("architecture", architecture, "which must be a name")
    name = architecture.split(".")[0]
    if is_rotary(name) and "position" not in settled:
        reader.refuse("architecture", name, "an encoder with rotary positions, which are not supported")
    if family == "vision_transformer":
        _by_name(reader, name)
    pretrained = _part(reader, config, "pretrained_cfg") if "pretrained_cfg" in config else config
    _images(reader, pretrained, "pretrained_cfg." if pretrained is not config else "")
    arguments = _part(reader, config, "model_args")
    _arguments(reader, arguments)
    _readout(reader, arguments if "global_pool" in arguments else config)
    return reader.statements


def _part(reader: Reader, config: Configuration, name: str) -> Configuration:
    part = config.get(name) or {}
    if not isinstance(part, dict):
        reader.refuse(name, part, "which must be an object")
    return part


def _by_name(reader: Reader, name: str) -> None:
    fields = {"norm_epsilon": EPSILON, "activation": "gelu"} if name else {}
    for expression, special in ARCHITECTURES:
        if re.fullmatch(expression, name):
            fields |= special
    for key, value in fields.items():
        reader.put(key, value, f"architecture={name}")


def _images(reader: Reader, config: Configuration, inside: str) -> None:
    reader.take(config, {"mean": "mean", "std": "std"}, inside)
    size = config.get("input_size")
    if size is not None:
        if not isinstance(size, (list, tuple)) or len(size) != 3:
            reader.refuse(f"{inside}input_size", size, "which must be channels, height and width")
        sides = {"input_size": size[0]}, {"input_size": list(size[1:])}
        for part, ours in zip(sides, ("channels", "image_size")):
            reader.take(part, {"input_size": ours}, inside)
    told = [f"{key}={config[key]}" for key in ("interpolation", "crop_pct", "crop_mode") if config.get(key) is not None]
    if told:
        reader.notes.append(f"{FILE} resizes by {', '.join(told)}; here the transform of a run does that")


def _arguments(reader: Reader, arguments: Configuration) -> None:
    inside = "model_args."
    for key, value in arguments.items():
        if key in USUAL and value in USUAL[key]:
            continue
        if key not in ARGUMENTS and key not in HARMLESS and value not in (None, False):
            reader.refuse(f"{inside}{key}", value, "which is not supported")
    swin = reader.family == "swin_transformer"
    reader.take(arguments, {k: v for k, v in ARGUMENTS.items() if not (swin and v == "layer_scale")}, inside)
    reader.take_activation(arguments, "act_layer", inside)
    for key in SWITCHES:
        value = arguments.get(key)
        if value is not None and not isinstance(value, bool):
            reader.refuse(f"{inside}{key}", value, "which must be true or false")
    if arguments.get("qkv_bias") is False:
        reader.put("qkv_bias", "none", f"{inside}qkv_bias")


def _readout(reader: Reader, config: Configuration) -> None:
    pool = config.get("global_pool")
    if pool is not None and not isinstance(pool, str):
        reader.refuse("global_pool", pool, "which must be a name")
    if pool:  # a name that is not known is refused where there is a head that would read so
        reader.put("readout", READOUTS.get(pool, pool), "global_pool")
