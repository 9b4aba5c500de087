"""The Vision Transformer as an encoder, and as a classifier."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mim_jax.models.blocks import Blocks, Computation
from mim_jax.models.encoder import EncoderOutput
from mim_jax.models.layers import Dense, LayerNorm, xavier_uniform
from mim_jax.ops.attention import Observer
from mim_jax.ops.masking import take_tokens
from mim_jax.ops.patches import patch_grid, patchify
from mim_jax.ops.positions import sincos_position_table

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class VisionTransformerConfig:
    """What defines a Vision Transformer encoder.

    Attributes:
        image_size: height and width in pixels.
        patch_size: height and width of a patch in pixels.
        channels: channels of an image.
        width: width of a token.
        depth: number of blocks.
        num_heads: attention heads; must divide the width.
        mlp_ratio: hidden width of the MLP over the token width.
        position: "sincos" (fixed) or "learned" (trained, starts from the same values).
        final_norm: whether the tokens pass a last layer norm.
        norm_epsilon: epsilon of every layer norm.
        drop_path_rate: stochastic depth of the last block; earlier blocks have linearly less.
    """

    image_size: Pair = (224, 224)
    patch_size: Pair = (16, 16)
    channels: int = 3
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    position: str = "sincos"
    final_norm: bool = True
    norm_epsilon: float = 1e-6
    drop_path_rate: float = 0.0

    def __post_init__(self) -> None:
        patch_grid(self.image_size, self.patch_size)
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not divisible by {self.num_heads} heads")
        if self.position not in ("sincos", "learned"):
            raise ValueError(f"position must be 'sincos' or 'learned', not '{self.position}'")

    @property
    def grid(self) -> Pair:
        """Rows and columns of patches."""
        return patch_grid(self.image_size, self.patch_size)

    @property
    def patches(self) -> int:
        """Number of patches of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def patch_values(self) -> int:
        """Numbers in a patch."""
        return self.patch_size[0] * self.patch_size[1] * self.channels


class PatchEmbedding(nn.Module):
    """The convolution whose kernel and stride are a patch, on patches that are cut out already."""

    patch_size: Pair
    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, patches: Float[Array, "b n p"]) -> Float[Array, "b n d"]:
        channels = patches.shape[-1] // (self.patch_size[0] * self.patch_size[1])
        shape = (*self.patch_size, channels, self.width)
        kernel = self.param("kernel", xavier_uniform((0, 1, 2), (3,)), shape)
        bias = self.param("bias", _convolution_bias(patches.shape[-1]), (self.width,))
        kernel = kernel.reshape(-1, self.width).astype(self.dtype)
        product = jnp.einsum("bnp,pd->bnd", patches.astype(self.dtype), kernel, preferred_element_type=jnp.float32)
        return (product + bias).astype(self.dtype)


def _convolution_bias(fan_in: int) -> nn.initializers.Initializer:
    """The uniform bias that torch gives a convolution, which MAE leaves in place."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


class PositionTable(nn.Module):
    """Absolute positions, sine-cosine at the start; a fixed table is a parameter that gets no gradient."""

    grid: Pair
    width: int
    trained: bool

    @nn.compact
    def __call__(self) -> Float[Array, "n d"]:
        table = self.param("table", lambda key: jnp.asarray(sincos_position_table(self.grid, self.width), jnp.float32))
        return table if self.trained else jax.lax.stop_gradient(table)


class VisionTransformer(nn.Module):
    """ViT encoder exactly as MAE's (He et al. 2022): class token, pre-norm blocks, final norm."""

    config: VisionTransformerConfig
    computation: Computation = Computation()

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w c"],
        *,
        keep: Int[Array, "b m"] | None = None,
        observer: Observer | None = None,
        dropout_key: Any = None,
    ) -> EncoderOutput:
        """Encodes normalised images; with `keep`, only the named patches ever become tokens."""
        config, dtype = self.config, jnp.dtype(self.computation.dtype)
        positions = PositionTable(config.grid, config.width, config.position == "learned", name="pos_embed")()
        patches = patchify(images, config.patch_size)
        patch_positions = positions[1:][None]
        if keep is not None:
            patches, patch_positions = take_tokens(patches, keep), positions[1:][keep]
        tokens = PatchEmbedding(config.patch_size, config.width, dtype, name="patch_embed")(patches)
        tokens = (tokens + patch_positions).astype(dtype)
        class_token = self.param("cls_token", nn.initializers.normal(0.02), (config.width,)) + positions[0]
        class_token = jnp.broadcast_to(class_token.astype(dtype), (images.shape[0], 1, config.width))
        tokens, observations = Blocks(
            config.depth,
            config.num_heads,
            config.mlp_ratio,
            config.norm_epsilon,
            config.drop_path_rate,
            self.computation,
            name="blocks",
        )(jnp.concatenate([class_token, tokens], axis=1), observer, dropout_key)
        if config.final_norm:
            tokens = LayerNorm(config.norm_epsilon, name="norm")(tokens)
        return EncoderOutput(tokens, config.grid, 1, observations)


class Classifier(nn.Module):
    """An encoder with a linear head, in the two forms of MAE's fine-tuning.

    `pooling="mean"` averages the patch tokens of an encoder without a final norm and normalises the average
    (`fc_norm`); `pooling="class_token"` reads the class token after the encoder's final norm.
    """

    encoder: nn.Module
    num_classes: int
    pooling: str = "mean"
    norm_epsilon: float = 1e-6

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, dropout_key: Any = None
    ) -> tuple[Float[Array, "b t"], Float[Array, "b d"]]:
        """Returns logits and the pooled features that they are computed from."""
        out = self.encoder(images, dropout_key=dropout_key)
        if self.pooling == "mean":
            pooled = out.tokens[:, out.prefix :].astype(jnp.float32).mean(axis=1)
            features = LayerNorm(self.norm_epsilon, name="fc_norm")(pooled)
        else:
            features = out.tokens[:, 0].astype(jnp.float32)
        return Dense((self.num_classes,), name="head")(features), features
