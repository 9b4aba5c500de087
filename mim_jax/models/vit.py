"""The Vision Transformer in all its flavours, one implementation."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mim_jax.models.attention import RelativePositionBias
from mim_jax.models.blocks import Blocks, Computation
from mim_jax.models.embedding import PatchEmbedding, PositionTable
from mim_jax.models.encoder import EncoderOutput, Tokens, check_input
from mim_jax.models.initialization import token_initializer
from mim_jax.models.layers import LayerNorm
from mim_jax.models.vit_config import VisionTransformerConfig
from mim_jax.ops.attention import Observer
from mim_jax.ops.broadcasting import broadcast_parameter
from mim_jax.ops.masking import replace_masked, take_tokens
from mim_jax.ops.patches import patchify

__all__ = ["VisionTransformer", "VisionTransformerConfig"]


class VisionTransformer(nn.Module):
    """ViT encoder (Dosovitskiy et al. 2021): prefix tokens, embedded patches, pre-norm blocks, final norm."""

    config: VisionTransformerConfig
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
        """Encodes normalised images; with `keep`, only the named patches ever become tokens."""
        config = self.config
        check_input(config, images, mask)
        if keep is not None and config.relative_position_bias != "none":
            raise ValueError("an encoder with a relative position bias cannot leave out patches; mask them instead")
        tokens, observations, tapped = Blocks(
            config.depth, config.block, config.drop_path_rate, self.computation, name="blocks"
        )(self._embed(images, keep, mask), observer, dropout_key, self._shared_bias(), taps)
        if config.final_norm:
            tokens = LayerNorm(config.norm_epsilon, name="norm")(tokens)
        place = config.grid, config.prefix
        return EncoderOutput(tokens, *place, observations, tuple(Tokens(tapped[tap], *place) for tap in taps))

    def _embed(
        self, images: Float[Array, "b h w c"], keep: Int[Array, "b m"] | None, mask: Float[Array, "b n"] | None
    ) -> Float[Array, "b _ d"]:
        """Prefix tokens and embedded patches, with their positions."""
        config, dtype = self.config, jnp.dtype(self.computation.dtype)
        prefix_positions, positions = self._positions()
        patches = patchify(images, config.patch_size)
        if keep is not None:
            patches, positions = take_tokens(patches, keep), positions[keep]
        embedding = PatchEmbedding(config.patch_size, config.width, config.embedding_init, dtype, name="patch_embed")
        tokens = embedding(patches)
        if config.mask_token:
            token = self.param("mask_token", token_initializer(config.kernel_init), (config.width,))
            tokens = tokens if mask is None else replace_masked(tokens, token, mask)
        tokens = (tokens + positions).astype(dtype)
        prefix = self._prefix() + prefix_positions
        prefix = broadcast_parameter(prefix, (images.shape[0], *prefix.shape), dtype)
        return jnp.concatenate([prefix, tokens], axis=1)

    def _prefix(self) -> Float[Array, "p d"]:
        """Class token, distillation token, registers, as many as there are."""
        config = self.config
        initial = token_initializer(config.kernel_init)
        names = [("cls_token", config.class_token), ("dist_token", config.distillation_token)]
        tokens = [self.param(name, initial, (config.width,))[None] for name, present in names if present]
        if config.registers:
            tokens.append(self.param("register_tokens", initial, (config.registers, config.width)))
        return jnp.concatenate(tokens) if tokens else jnp.zeros((0, config.width))

    def _positions(self) -> tuple[Float[Array, "p d"], Float[Array, "n d"]]:
        """What is added to the prefix tokens, and to the patches."""
        config = self.config
        if config.position == "none":
            return jnp.zeros((config.prefix, config.width)), jnp.zeros((config.patches, config.width))
        initialization = "" if config.kernel_init == "xavier_uniform" else config.kernel_init
        arguments = config.grid, config.width, config.position_prefix, config.position, initialization
        table = PositionTable(*arguments, name="pos_embed")()
        without = jnp.zeros((config.prefix - config.position_prefix, config.width))
        return jnp.concatenate([table[: config.position_prefix], without]), table[config.position_prefix :]

    def _shared_bias(self) -> Float[Array, "k n n"] | None:
        config = self.config
        if config.relative_position_bias != "shared":
            return None
        arguments = config.grid, config.num_heads, config.class_token
        return RelativePositionBias(*arguments, name="relative_position_bias")()
