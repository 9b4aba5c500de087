"""Golden cases of Vision Transformers in every layout, as our parameters."""

import re
from typing import Any

import numpy as np

# Names of a layout to those of timm and the original MAE; every pair is applied, one after the other.
_HUGGING_FACE = [
    # the names of version 5 to those of version 4
    (r"^(vit|beit)\.layers\.(\d+)\.relative_position_bias\.", r"\1.layers.\2.attention.attention."),
    (r"^(vit|beit)\.layers\.", r"\1.encoder.layer."),
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"attention\.o_proj", "attention.output.dense"),
    # and those to the common ones
    (r"^(vit|beit|deit|dinov2_with_registers|dinov2)\.", ""),
    (r"^embeddings\.", ""),
    (r"position_embeddings", "pos_embed"),
    (r"patch_embeddings\.projection", "patch_embed.proj"),
    (r"distillation_token", "dist_token"),
    (r"^encoder\.relative_position_bias\.", "rel_pos_bias."),
    (r"^encoder\.layer\.", "blocks."),
    (r"^decoder\.decoder_layers\.", "decoder_blocks."),
    (r"^decoder\.decoder_", "decoder_"),
    (r"^decoder\.mask_token", "decoder_mask_token"),
    (r"attention\.attention\.(?:relative_position_bias\.)?", "attn."),
    (r"attention\.output\.dense", "attn.proj"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"output\.dense", "mlp.fc2"),
    (r"weights_in", "w12"),
    (r"weights_out", "w3"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"lambda_(\d)$", r"gamma_\1"),
    (r"layer_scale(\d)\.lambda1", r"gamma_\1"),
    (r"pooler\.layernorm", "fc_norm"),
    (r"^layernorm", "norm"),
    (r"^(?:cls_)?classifier|^lm_head", "head"),
    (r"^distillation_classifier", "head_dist"),
]
_PACKED_SWIGLU = [(r"mlp\.fc1", "mlp.w12"), (r"mlp\.fc2", "mlp.w3")]
_LAYOUTS = {"timm": [], "timm_swiglu": _PACKED_SWIGLU, "hugging_face": _HUGGING_FACE}
_COMMON = [
    (r"^(?:module\.|backbone\.|base_encoder\.)+", ""),
    (r"ls(\d)\.gamma", r"gamma_\1"),
    (r"reg_token", "register_tokens"),
    (r"masked_embed", "mask_token"),
    (r"^blocks\.\d+\.(\d+\.)", r"blocks.\1"),  # DINOv2 in chunks
    (r"relative_position_bias_table", "relative_position_bias.table"),
    (r"^rel_pos_bias\.relative_position_bias\.", "relative_position_bias."),
    (r"patch_embed\.proj", "patch_embed"),
    (r"pos_embed$", "pos_embed.table"),
]
_OURS = [
    (r"^decoder\.0\.", "decoder."),
    (r"^decoder_", "decoder."),
    (r"^(?=head|fc_norm|decoder)", ""),
    (r"^(?!head|fc_norm|decoder)", "encoder."),
    (r"norm(\d?)\.weight$", r"norm\1.scale"),
    (r"weight$", "kernel"),
]


_DROPPED = re.compile(r"relative_position_index|^(module\.)?(base_encoder\.)?head\.(mlp|last_layer|\d)")


def our_name(name: str, layout: str = "timm") -> str:
    """Our path, joined by dots, of a tensor; query, key and value of Hugging Face stay apart."""
    for pattern, replacement in _LAYOUTS[layout] + _COMMON + _OURS:
        name = re.sub(pattern, replacement, name)
    return name


def parameters(tensors: dict[str, np.ndarray], num_heads: int, decoder_heads: int = 1, layout: str = "timm") -> Any:
    """Our nested parameters (`encoder`, and `head`, `fc_norm`, `decoder` where there are) from flat ones."""
    named = {our_name(name, layout): array for name, array in tensors.items() if not _DROPPED.search(name)}
    tree: dict[str, Any] = {}
    for name, array in _fused(named).items():
        *path, leaf = name.split(".")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[leaf] = _ours(name, array, decoder_heads if path[0] == "decoder" else num_heads)
    return tree


def _fused(named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Query, key and value of Hugging Face as one tensor, as all others have them."""
    fused = {name: array for name, array in named.items() if not re.search(r"attn\.(query|key|value)\.", name)}
    for name in named:
        if name.endswith("attn.query.kernel"):
            attention = name.removesuffix("query.kernel")
            parts = [attention + part for part in ("query", "key", "value")]
            fused[attention + "qkv.kernel"] = np.concatenate([named[part + ".kernel"] for part in parts])
            if parts[1] + ".bias" in named:
                fused[attention + "qkv.bias"] = np.concatenate([named[part + ".bias"] for part in parts])
            elif parts[0] + ".bias" in named:
                fused[attention + "q_bias"], fused[attention + "v_bias"] = (
                    named[part + ".bias"] for part in (parts[0], parts[2])
                )
    return fused


def _ours(name: str, array: np.ndarray, heads: int) -> np.ndarray:
    """A tensor in our shape and order."""
    if name.endswith(("token", "register_tokens", "pos_embed.table")):
        return array.reshape(array.shape[1:] if array.ndim == 3 and name.endswith(("s", "table")) else -1)
    if name.endswith("patch_embed.kernel"):
        return array.transpose(2, 3, 1, 0)
    if ".qkv." in name:
        shape = (3, heads, array.shape[0] // (3 * heads))
        return array.reshape(shape) if array.ndim == 1 else array.T.reshape(-1, *shape)
    if name.endswith(("q_bias", "v_bias")):
        return array.reshape(heads, -1)
    if name.endswith("attn.proj.kernel"):
        return array.T.reshape(heads, -1, array.shape[0])
    if ".w12." in name:
        return array.reshape(2, -1) if array.ndim == 1 else array.T.reshape(-1, 2, array.shape[0] // 2)
    if name == "decoder.kernel":  # a 1x1 convolution whose outputs are channel, row, column of a patch
        side = round((array.shape[0] / 3) ** 0.5)
        return array[:, :, 0, 0].T.reshape(-1, 3, side, side)
    if name == "decoder.bias":
        return array.reshape(3, round((array.size / 3) ** 0.5), -1)
    return array if name.endswith("table") else array.T
