"""The Swin Transformer, version 1 and 2, one implementation."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mim_jax.models.blocks import Computation, drop_paths
from mim_jax.models.embedding import PatchEmbedding, PositionTable
from mim_jax.models.encoder import EncoderOutput, Tokens, check_input
from mim_jax.models.initialization import token_initializer
from mim_jax.models.layers import LayerNorm
from mim_jax.models.swin_blocks import Stage
from mim_jax.models.swin_config import PER_STAGE, SwinConfig
from mim_jax.ops.attention import Observer
from mim_jax.ops.masking import replace_masked
from mim_jax.ops.patches import patchify


def drop_last_blocks(config: SwinConfig, count: int) -> SwinConfig:
    """The encoder without its last `count` blocks (Xie et al. 2023, section on layer dropping).

    A stage that loses all its blocks vanishes, and so does the merging that led to it. Raises ValueError if no block
    would be left.
    """
    left = sum(config.depths) - count
    if count < 0 or left < 1:
        raise ValueError(
            f"cannot drop {count} of {sum(config.depths)} blocks; choose a number from 0 to {sum(config.depths) - 1}"
        )
    depths = []
    for depth in config.depths:
        depths.append(min(depth, left - sum(depths)))
    depths = tuple(depth for depth in depths if depth)
    return dataclasses.replace(
        config, depths=depths, **{name: getattr(config, name)[: len(depths)] for name in PER_STAGE}
    )


class SwinTransformer(nn.Module):
    """Swin encoder: patches, stages of attention within (shifted) windows with a merging between, final norm."""

    config: SwinConfig
    computation: Computation = Computation()

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w c"],
        *,
        keep: Int[Array, "b m"] | None = None,
        mask: Float[Array, "b n"] | None = None,
        observer: Observer | None = None,
        dropout_key: PRNGKeyArray | None = None,
        taps: tuple[int, ...] = (),
    ) -> EncoderOutput:
        """Encodes normalised images; a tap at the end of a stage is taken before the merging."""
        config, depths = self.config, self.config.depths
        check_input(config, images, mask)
        if keep is not None:
            raise ValueError("windows need all patches, so a Swin Transformer cannot leave out any; mask them instead")
        x = self._embed(images, mask)
        observations, tapped = [], {0: Tokens(x, config.grid, 0)}
        for stage, depth in enumerate(depths):
            first = sum(depths[:stage])
            inside = tuple(tap - first for tap in taps if first < tap <= first + depth)
            paths = drop_paths(config.drop_path_rate, depth, dropout_key, first, sum(depths))
            blocks, merge = config.stage_blocks(stage), stage < len(depths) - 1
            run = Stage(blocks, merge, self.computation, name=f"stage{stage}")
            x, observed, outputs = run(x, paths, observer, inside)
            observations.append(observed)
            tapped |= {first + tap: Tokens(tokens, blocks[0].grid, 0) for tap, tokens in outputs.items()}
        if config.final_norm:
            x = LayerNorm(config.norm_epsilon, name="norm")(x)
        seen = None if observer is None else tuple(observations)
        return EncoderOutput(x, config.stage_grids[-1], 0, seen, tuple(tapped[tap] for tap in taps))

    def _embed(self, images: Float[Array, "b h w c"], mask: Float[Array, "b n"] | None) -> Float[Array, "b n d"]:
        """Embedded patches, normalised, masked, with their positions."""
        config, dtype = self.config, jnp.dtype(self.computation.dtype)
        arguments = config.patch_size, config.width, config.embedding_init, dtype
        tokens = PatchEmbedding(*arguments, name="patch_embed")(patchify(images, config.patch_size))
        tokens = LayerNorm(config.norm_epsilon, dtype, name="patch_norm")(tokens)
        if config.mask_token:
            token = self.param("mask_token", token_initializer(config.kernel_init), (config.width,))
            tokens = tokens if mask is None else replace_masked(tokens, token, mask)
        if config.position == "learned":
            arguments = config.grid, config.width, 0, "learned", config.kernel_init
            tokens = (tokens + PositionTable(*arguments, name="pos_embed")()).astype(dtype)
        return tokens
