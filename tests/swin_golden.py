"""Swin parameters of the golden cases: from the names of other codes to ours.

Every layout is renamed to the original one first, then to our paths.
"""

import re
from typing import Any

import numpy as np

from mim_jax.models.swin import SwinConfig
from tests.golden_cases import case, checkpoint

BUFFERS = r".*(relative_position_index|relative_coords_table|attn_mask)"

LAYOUTS = {
    "original": [(r"(?:module\.)?encoder\.(.*)", r"\1")],
    "timm": [(r"head\.fc\.(.*)", r"head.\1")],
    "hugging_face": [
        (r"(.*)\.attention\.q_proj\.(.*)", r"\1.attention.self.query.\2"),
        (r"(.*)\.attention\.k_proj\.(.*)", r"\1.attention.self.key.\2"),
        (r"(.*)\.attention\.v_proj\.(.*)", r"\1.attention.self.value.\2"),
        (r"(.*)\.attention\.o_proj\.(.*)", r"\1.attention.output.dense.\2"),
        (r"(.*)\.attention\.relative_position_bias\.(relative_position_bias_table)", r"\1.attn.\2"),
        (r"swin(?:v2)?\.(.*)", r"\1"),
        (r"embeddings\.mask_token", "mask_token"),
        (r"embeddings\.patch_embeddings\.projection\.(.*)", r"patch_embed.proj.\1"),
        (r"embeddings\.norm\.(.*)", r"patch_embed.norm.\1"),
        (r"encoder\.(.*)", r"\1"),
        (r"(.*)\.attention\.self\.continuous_position_bias_mlp\.(.*)", r"\1.attn.cpb_mlp.\2"),
        (r"(.*)\.attention\.self\.(.*)", r"\1.attn.\2"),
        (r"(.*)\.attention\.output\.dense\.(.*)", r"\1.attn.proj.\2"),
        (r"(.*)\.layernorm_before\.(.*)", r"\1.norm1.\2"),
        (r"(.*)\.layernorm_after\.(.*)", r"\1.norm2.\2"),
        (r"(.*)\.intermediate\.dense\.(.*)", r"\1.mlp.fc1.\2"),
        (r"(.*)\.output\.dense\.(.*)", r"\1.mlp.fc2.\2"),
        (r"layernorm\.(.*)", r"norm.\1"),
        (r"classifier\.(.*)", r"head.\1"),
    ],
}
"""Regular expressions and what they become, one after the other, on the way to the original names."""

PATHS = [
    (r"mask_token", "encoder/mask_token"),
    (r"absolute_pos_embed", "encoder/pos_embed/table"),
    (r"patch_embed\.proj\.(.*)", r"encoder/patch_embed/\1"),
    (r"patch_embed\.norm\.(.*)", r"encoder/patch_norm/\1"),
    (r"(layers.*\.attn)\.relative_position_bias_table", r"encoder/\1/relative_position_bias/table"),
    (r"(layers.*\.attn)\.(?:cpb|rpe)_mlp\.0\.(.*)", r"encoder/\1/position_mlp/fc1/\2"),
    (r"(layers.*\.attn)\.(?:cpb|rpe)_mlp\.2\.(.*)", r"encoder/\1/position_mlp/fc2/\2"),
    (r"(layers\.\d+)\.downsample\.(.*)", r"encoder/\1/merging/\2"),
    (r"(layers\..*)", r"encoder/\1"),
    (r"norm3?\.(.*)", r"encoder/norm/\1"),
    (r"head\.(.*)", r"head/\1"),
    (r"decoder\.0\.(.*)", r"decoder/\1"),
]
"""Original names to our paths."""


def parameters(name: str, layout: str) -> dict[str, Any]:
    """Our nested parameters of a case, `{"encoder": ...}` and `"head"` or `"decoder"` if it has them.

    `decoder/kernel` is `[d, p]` with its outputs in the order of the original's pixel shuffle.
    """
    return from_tensors(checkpoint(name), case(name)["model"]["num_heads"], layout)


def from_tensors(tensors: dict[str, np.ndarray], num_heads: list[int], layout: str = "original") -> dict[str, Any]:
    """The same from tensors; whatever the tables do not know is an error, but for the depth decoder."""
    tree: dict[str, Any] = {}
    for name, array in original_tensors(tensors, layout).items():
        *path, leaf = our_path(name)
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[leaf] = our_array(name, array, num_heads)
    return tree


def original_tensors(tensors: dict[str, np.ndarray], layout: str) -> dict[str, np.ndarray]:
    """Tensors under their original names, without buffers, query, key and value in one."""
    skipped = rf"{BUFFERS}|module\.(decoder|last_layer_depth)\..*"
    kept = {name: array for name, array in tensors.items() if not re.fullmatch(skipped, name)}
    renamed = {_original_name(name, layout): array for name, array in kept.items()}
    for name in [name for name in renamed if name.endswith(".query.weight")]:
        _fuse(renamed, name.removesuffix(".query.weight"))
    return renamed


def _original_name(name: str, layout: str) -> str:
    for pattern, replacement in LAYOUTS[layout]:
        if re.fullmatch(pattern, name):
            name = re.sub(f"^{pattern}$", replacement, name)
    if layout == "timm" and ".downsample." in name:  # it begins a stage there, here it ends the one before
        name = re.sub(r"^layers\.(\d+)", lambda found: f"layers.{int(found[1]) - 1}", name)
    return name


def _fuse(tensors: dict[str, np.ndarray], attention: str) -> None:
    parts = ("query", "key", "value")
    tensors[f"{attention}.qkv.weight"] = np.concatenate([tensors.pop(f"{attention}.{part}.weight") for part in parts])
    biases = [tensors.pop(f"{attention}.{part}.bias", None) for part in parts]
    if biases[1] is None:
        tensors[f"{attention}.q_bias"], _, tensors[f"{attention}.v_bias"] = biases
    else:
        tensors[f"{attention}.qkv.bias"] = np.concatenate(biases)


def our_path(name: str) -> tuple[str, ...]:
    """Path in our parameters of an original name."""
    pattern, target = next((p, t) for p, t in PATHS if re.fullmatch(p, name))
    path = re.sub(f"^{pattern}$", target, name).replace("layers.", "stage").replace(".", "/").split("/")
    *path, leaf = path
    if leaf == "weight":
        leaf = "scale" if "norm" in path[-1] else "kernel"
    return (*path, leaf)


def our_array(name: str, array: np.ndarray, num_heads: list[int]) -> np.ndarray:
    """An original tensor in the shape and order of ours."""
    heads = num_heads[int(name.split(".")[1])] if ".attn." in name else None
    if name == "patch_embed.proj.weight":
        return array.transpose(2, 3, 1, 0)
    if name.startswith("decoder.0"):
        return array.reshape(array.shape[:2]).T if array.ndim == 4 else array
    if name.endswith(("mask_token", "logit_scale")):
        return array.reshape(-1)
    if name.endswith(("q_bias", "v_bias")):
        return array.reshape(heads, -1)
    if ".qkv." in name:
        shape = (3, heads, array.shape[0] // (3 * heads))
        return array.reshape(shape) if array.ndim == 1 else array.T.reshape(-1, *shape)
    if name.endswith("attn.proj.weight"):
        return array.T.reshape(heads, -1, array.shape[0])
    if name.endswith(("bias_table", "pos_embed")):
        return array.reshape(array.shape[-2:])
    return array.T


def config(name: str, version: int, **changes: Any) -> SwinConfig:
    """The encoder of a case."""
    model = case(name)["model"]
    side = model.get("img_size", model.get("image_size"))
    pretrained = model.get("pretrained_window_sizes", ()) if version == 2 else ()
    fields = {
        "version": version,
        "image_size": (side, side),
        "patch_size": (model["patch_size"],) * 2,
        "width": model["embed_dim"],
        "depths": tuple(model["depths"]),
        "num_heads": tuple(model["num_heads"]),
        "window": model["window_size"],
        "mlp_ratio": float(model["mlp_ratio"]),
        "pretrained_windows": tuple(pretrained)[: len(model["depths"])],
        "norm_epsilon": model["layer_norm_eps"],
    }
    return SwinConfig(**(fields | changes))
