"""What encoders cost: floating-point operations, two for each multiply-add, and memory.

Only matrix products are counted; this is the count that model FLOP/s utilisation is defined on. Products that do not
grow with the batch (those that make or look up relative position biases) are left out.
"""

from typing import NamedTuple

import jax.numpy as jnp

from mim_jax.models.blocks import BlockConfig, Computation
from mim_jax.models.build import AnyEncoderConfig
from mim_jax.models.swin import SwinConfig
from mim_jax.models.vit import VisionTransformerConfig


class Stage(NamedTuple):
    """Sizes of a stack of equal blocks.

    Attributes:
        tokens: tokens of one image.
        keys: tokens that a query attends to.
        width: width of a token.
        depth: number of blocks.
        num_heads: attention heads.
        expanded: width of what the first layer of the MLP makes.
        contracted: width of what its last layer takes.
    """

    tokens: int
    keys: int
    width: int
    depth: int
    num_heads: int
    expanded: int
    contracted: int


def stage_of_blocks(tokens: int, width: int, depth: int, config: BlockConfig) -> Stage:
    """Blocks with global attention."""
    expanded = int(width * config.mlp_ratio)
    contracted = expanded // 2 if config.mlp == "swiglu" else expanded
    return Stage(tokens, tokens, width, depth, config.attention.num_heads, expanded, contracted)


def encoder_stages(config: AnyEncoderConfig, patches: int | None = None) -> list[Stage]:
    """The stages of an encoder, of which `patches` patches (default all) are visible."""
    if isinstance(config, VisionTransformerConfig):
        tokens = config.prefix + (config.patches if patches is None else patches)
        return [stage_of_blocks(tokens, config.width, config.depth, config.block)]
    return [_swin_stage(config, stage) for stage in range(len(config.depths))]


def _swin_stage(config: SwinConfig, stage: int) -> Stage:
    rows, columns = config.stage_grids[stage]
    window, width = config.stage_windows[stage], config.width * 2**stage
    padded = -(-rows // window[0]) * window[0] * -(-columns // window[1]) * window[1]
    hidden = int(width * config.mlp_ratio)
    keys = window[0] * window[1]
    return Stage(padded, keys, width, config.depths[stage], config.num_heads[stage], hidden, hidden)


def stage_flops(stage: Stage) -> int:
    """Forward FLOPs of a stack of blocks on one image."""
    dense = 2 * stage.tokens * stage.width * (4 * stage.width + stage.expanded + stage.contracted)
    return stage.depth * (dense + 4 * stage.tokens * stage.keys * stage.width)


def patch_embedding_flops(config: AnyEncoderConfig, patches: int | None = None) -> int:
    """Forward FLOPs of embedding `patches` patches (default all) of one image."""
    rows, columns = config.grid
    values = config.patch_size[0] * config.patch_size[1] * config.channels
    return 2 * (rows * columns if patches is None else patches) * values * config.width


def encoder_flops(config: AnyEncoderConfig, patches: int | None = None) -> int:
    """Forward FLOPs of an encoder on one image of which `patches` patches (default all) are visible."""
    stages = encoder_stages(config, patches)
    return patch_embedding_flops(config, patches) + sum(map(stage_flops, stages)) + _merging_flops(config)


def _merging_flops(config: AnyEncoderConfig) -> int:
    if isinstance(config, VisionTransformerConfig):
        return 0
    widths = [config.width * 2**stage for stage in range(len(config.depths))]
    tokens = [rows * columns for rows, columns in config.stage_grids]
    return sum(2 * after * 4 * width * 2 * width for width, after in zip(widths, tokens[1:]))


def saved_bytes(stages: list[Stage], computation: Computation) -> int:
    """Estimate of the bytes that stacks of blocks save per image for their backward pass.

    Without rematerialisation a block saves, per token, its input, two normed inputs, query, key and value, the
    heads' output, the residual in between, the hidden layer before and after GELU, and the attention weights.
    """
    return sum(stage.depth * stage.tokens * _saved_per_token(stage, computation.remat) for stage in stages) * (
        jnp.dtype(computation.dtype).itemsize
    )


def _saved_per_token(stage: Stage, remat: str) -> int:
    width, weights = stage.width, stage.num_heads * stage.keys
    products = width * 6 + stage.expanded
    return {
        "none": width * 8 + stage.expanded + stage.contracted + 2 * weights,
        "full": width,
        "dots": products + weights,
        "dots_no_batch": products,
    }[remat]
