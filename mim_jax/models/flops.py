"""Analytic counts of floating-point operations, two for each multiply-add.

Only matrix products are counted; this is the count that model FLOP/s utilisation is defined on.
"""

from mim_jax.models.vit import VisionTransformerConfig


def blocks_flops(tokens: int, width: int, depth: int, mlp_ratio: float) -> int:
    """Forward FLOPs of a stack of transformer blocks on one image."""
    dense = 2 * tokens * width * width * (4 + 2 * mlp_ratio)
    attention = 4 * tokens * tokens * width
    return int(depth * (dense + attention))


def patch_embedding_flops(config: VisionTransformerConfig, patches: int) -> int:
    """Forward FLOPs of embedding `patches` patches of one image."""
    return 2 * patches * config.patch_values * config.width


def encoder_flops(config: VisionTransformerConfig, patches: int | None = None) -> int:
    """Forward FLOPs of an encoder on one image of which `patches` patches (default all) are visible."""
    visible = config.patches if patches is None else patches
    blocks = blocks_flops(1 + visible, config.width, config.depth, config.mlp_ratio)
    return patch_embedding_flops(config, visible) + blocks
