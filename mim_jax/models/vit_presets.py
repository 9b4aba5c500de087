"""Named Vision Transformers of the literature: only what differs from ViT-B/16 as in MAE."""

from typing import Any

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 192, "depth": 12, "num_heads": 3},
    "small": {"width": 384, "depth": 12, "num_heads": 6},
    "medium": {"width": 512, "depth": 12, "num_heads": 8},
    "base": {"width": 768, "depth": 12, "num_heads": 12},
    "large": {"width": 1024, "depth": 24, "num_heads": 16},
    "huge": {"width": 1280, "depth": 32, "num_heads": 16},
    "giant": {"width": 1536, "depth": 40, "num_heads": 24},
}
"""Size to width, depth and heads."""

_LEARNED = {"position": "learned", "kernel_init": "normal", "embedding_init": "torch_default"}

_BEIT = {
    "position": "none",
    "position_prefix": 0,
    "relative_position_bias": "shared",
    "qkv_bias": "query_value",
    "kernel_init": "normal",
    "embedding_init": "normal",
    "rescale_by_depth": True,
    "mask_token": True,
}

_IJEPA = {
    "class_token": False,
    "position_prefix": 0,
    "kernel_init": "normal",
    "embedding_init": "normal",
    "rescale_by_depth": True,
}

FLAVOURS: dict[str, dict[str, Any]] = {
    "vit": {},
    "simmim_vit": _BEIT
    | {"layer_scale": 0.1, "kernel_init": "truncated_at_sigma", "embedding_init": "truncated_at_sigma"},
    "simmim_finetune_vit": _BEIT
    | {"layer_scale": 0.1, "relative_position_bias": "per_block", "final_norm": False, "mask_token": False},
    "beit": _BEIT | {"layer_scale": 0.1},
    "beit_large": _BEIT | {"layer_scale": 1e-5},
    "data2vec_vit": _BEIT | {"layer_scale": 1e-4},
    "data2vec_large_vit": _BEIT | {"layer_scale": 1e-5},
    "deit": _LEARNED,
    "deit_distilled": _LEARNED | {"distillation_token": True, "position_prefix": 2},
    "deit3": _LEARNED | {"layer_scale": 1e-4, "position_prefix": 0},
    "dino_vit": _LEARNED,
    "ibot_vit": _LEARNED | {"mask_token": True},
    "dinov2_vit": _LEARNED | {"layer_scale": 1e-5, "mask_token": True},
    "dinov2_reg4_vit": _LEARNED | {"layer_scale": 1e-5, "mask_token": True, "registers": 4},
    "dinov2_swiglu_vit": _LEARNED
    | {"layer_scale": 1e-5, "mask_token": True, "mlp": "swiglu", "mlp_ratio": 16 / 3},
    "mocov3_vit": {"position": "sincos_rows_first"},
    "mocov3_small_vit": {"position": "sincos_rows_first", "num_heads": 12},
    "ijepa_vit": _IJEPA,
    "ijepa_giant_vit": _IJEPA | {"width": 1408, "num_heads": 16, "mlp_ratio": 48 / 11},
    "maskfeat_vit": _LEARNED | {"mask_token": True},
}  # fmt: skip
"""Flavour to the fields that make it."""

_MODELS: tuple[tuple[str, str, tuple[str, ...], int, int], ...] = (
    ("vit_{}_patch16", "vit", ("tiny", "small", "medium", "base", "large"), 16, 224),
    ("vit_{}_patch14", "vit", ("huge",), 14, 224),
    ("simmim_vit_{}_patch16", "simmim_vit", ("tiny", "small", "base"), 16, 224),
    ("simmim_finetune_vit_{}_patch16", "simmim_finetune_vit", ("base",), 16, 224),
    ("beit_{}_patch16", "beit", ("base",), 16, 224),
    ("beit_{}_patch16", "beit_large", ("large",), 16, 224),
    ("data2vec_vit_{}_patch16", "data2vec_vit", ("base",), 16, 224),
    ("data2vec_vit_{}_patch16", "data2vec_large_vit", ("large",), 16, 224),
    ("deit_{}_patch16", "deit", ("tiny", "small", "base"), 16, 224),
    ("deit_distilled_{}_patch16", "deit_distilled", ("tiny", "small", "base"), 16, 224),
    ("deit3_{}_patch16", "deit3", ("small", "medium", "base", "large"), 16, 224),
    ("deit3_{}_patch14", "deit3", ("huge",), 14, 224),
    ("dino_vit_{}_patch16", "dino_vit", ("small", "base"), 16, 224),
    ("dino_vit_{}_patch8", "dino_vit", ("small", "base"), 8, 224),
    ("ibot_vit_{}_patch16", "ibot_vit", ("small", "base", "large"), 16, 224),
    ("dinov2_vit_{}_patch14", "dinov2_vit", ("small", "base", "large"), 14, 518),
    ("dinov2_vit_{}_patch14", "dinov2_swiglu_vit", ("giant",), 14, 518),
    ("dinov2_reg4_vit_{}_patch14", "dinov2_reg4_vit", ("small", "base", "large"), 14, 518),
    ("mocov3_vit_{}_patch16", "mocov3_small_vit", ("small",), 16, 224),
    ("mocov3_vit_{}_patch16", "mocov3_vit", ("base",), 16, 224),
    ("ijepa_vit_{}_patch14", "ijepa_vit", ("huge",), 14, 224),
    ("ijepa_vit_{}_patch16", "ijepa_giant_vit", ("giant",), 16, 224),
    ("maskfeat_vit_{}_patch16", "maskfeat_vit", ("base", "large"), 16, 224),
)
"""Name with a gap for the size, flavour, sizes, patch size and image size in pixels."""


def _fields(flavour: str, size: str, patch: int, image: int) -> dict[str, Any]:
    return SIZES[size] | FLAVOURS[flavour] | {"patch_size": (patch, patch), "image_size": (image, image)}


VIT_ENCODERS: dict[str, dict[str, Any]] = {
    name.format(size): _fields(flavour, size, patch, image)
    for name, flavour, sizes, patch, image in _MODELS
    for size in sizes
}
"""Encoder name to the fields of its `VisionTransformerConfig`."""
