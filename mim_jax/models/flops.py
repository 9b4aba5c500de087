"""Analytic counts of floating-point operations, two for each multiply-add.

Only matrix products are counted; this is the count that model FLOP/s utilisation is defined on. The small products that
look relative positions up are not.
"""

from mim_jax.models.blocks import BlockConfig
from mim_jax.models.vit import VisionTransformerConfig


def blocks_flops(tokens: int, width: int, depth: int, config: BlockConfig) -> int:
    """Forward FLOPs of a stack of transformer blocks on one image."""
    hidden = int(width * config.mlp_ratio)
    last = hidden // 2 if config.mlp == "swiglu" else hidden
    dense = 2 * tokens * width * (4 * width + hidden + last)
    return depth * (dense + 4 * tokens * tokens * width)


def patch_embedding_flops(config: VisionTransformerConfig, patches: int) -> int:
    """Forward FLOPs of embedding `patches` patches of one image."""
    return 2 * patches * config.patch_values * config.width


def encoder_flops(config: VisionTransformerConfig, patches: int | None = None) -> int:
    """Forward FLOPs of an encoder on one image of which `patches` patches (default all) are visible."""
    visible = config.patches if patches is None else patches
    blocks = blocks_flops(config.prefix + visible, config.width, config.depth, config.block)
    return patch_embedding_flops(config, visible) + blocks
