"""The Vision Transformer in all its flavours, one implementation."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mim_jax.models.attention import QKV_BIASES, AttentionConfig, RelativePositionBias
from mim_jax.models.blocks import BlockConfig, Blocks, Computation
from mim_jax.models.encoder import EncoderOutput, Pair, Tokens, check_input
from mim_jax.models.initialization import bias_initializer, kernel_initializer, token_initializer
from mim_jax.models.layers import LayerNorm
from mim_jax.ops.attention import Observer
from mim_jax.ops.masking import replace_masked, take_tokens
from mim_jax.ops.patches import patch_grid, patchify
from mim_jax.ops.positions import position_table

CHOICES = {
    "position": ("sincos", "sincos_rows_first", "learned", "none"),
    "relative_position_bias": ("none", "shared", "per_block"),
    "qkv_bias": QKV_BIASES,
    "mlp": ("gelu", "swiglu"),
}


@dataclasses.dataclass(frozen=True)
class VisionTransformerConfig:
    """What defines a Vision Transformer encoder. The defaults are ViT-B/16 as in MAE.

    Attributes:
        image_size: height and width in pixels.
        patch_size: height and width of a patch in pixels.
        channels: channels of an image.
        width: width of a token.
        depth: number of blocks.
        num_heads: attention heads; must divide the width.
        mlp_ratio: width of what the first layer of the MLP makes, over the token width.
        mlp: "gelu" or "swiglu".
        class_token: whether a class token stands in front.
        distillation_token: whether DeiT's second token follows it.
        registers: number of register tokens behind those.
        mask_token: whether there is a token that stands in for masked patches.
        position: "sincos" (fixed, columns first, as MAE), "sincos_rows_first" (fixed, as MoCo v3), "learned", "none".
        position_prefix: how many of the prefix tokens, the first ones, have a position of their own.
        relative_position_bias: "none", "shared" by all blocks, or "per_block".
        qkv_bias: which of query, key and value get a bias: "all", "query_value" or "none".
        query_key_norm: layer norm on queries and keys.
        layer_scale: what the factors on the branches start with; 0 for no factors.
        final_norm: whether the tokens pass a last layer norm.
        norm_epsilon: epsilon of every layer norm.
        drop_path_rate: stochastic depth of the last block; earlier blocks have linearly less.
        kernel_init: how kernels start, a name of `initialization.KERNELS`.
        embedding_init: the same for the patch embedding.
        rescale_by_depth: divides the last kernels of both branches of block i by sqrt(2 i) at the start (BEiT).
    """

    image_size: Pair = (224, 224)
    patch_size: Pair = (16, 16)
    channels: int = 3
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    mlp: str = "gelu"
    class_token: bool = True
    distillation_token: bool = False
    registers: int = 0
    mask_token: bool = False
    position: str = "sincos"
    position_prefix: int = 1
    relative_position_bias: str = "none"
    qkv_bias: str = "all"
    query_key_norm: bool = False
    layer_scale: float = 0.0
    final_norm: bool = True
    norm_epsilon: float = 1e-6
    drop_path_rate: float = 0.0
    kernel_init: str = "xavier_uniform"
    embedding_init: str = "xavier_uniform_convolution"
    rescale_by_depth: bool = False

    def __post_init__(self) -> None:
        patch_grid(self.image_size, self.patch_size)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not '{getattr(self, name)}'")
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not divisible by {self.num_heads} heads")
        if self.position.startswith("sincos") and self.width % 4:
            raise ValueError(f"sine-cosine positions need a width divisible by 4, not {self.width}")
        if self.position_prefix > self.prefix:
            raise ValueError(
                f"position_prefix is {self.position_prefix}, but there are only {self.prefix} prefix tokens; lower it"
            )
        if self.relative_position_bias != "none" and self.prefix > 1:
            raise ValueError(
                "a relative position bias knows a class token and patches only; leave out registers and distillation "
                "token, or set relative_position_bias to 'none'"
            )

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

    @property
    def prefix(self) -> int:
        """Number of prefix tokens."""
        return self.class_token + self.distillation_token + self.registers

    @property
    def output_width(self) -> int:
        """Width of the last tokens."""
        return self.width

    @property
    def output_stride(self) -> Pair:
        """Pixels from one token to the next."""
        return self.patch_size

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks in the only stage."""
        return (self.depth,)

    @property
    def block(self) -> BlockConfig:
        """What defines a block."""
        attention = AttentionConfig(
            self.num_heads,
            self.qkv_bias,
            self.query_key_norm,
            bias_window=self.grid if self.relative_position_bias == "per_block" else None,
            bias_class_token=self.class_token,
            norm_epsilon=self.norm_epsilon,
            kernel_init=self.kernel_init,
        )
        return BlockConfig(attention, self.mlp, self.mlp_ratio, self.layer_scale, self.norm_epsilon)


class PatchEmbedding(nn.Module):
    """The convolution whose kernel and stride are a patch, on patches that are cut out already."""

    patch_size: Pair
    width: int
    initialization: str = "xavier_uniform_convolution"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, patches: Float[Array, "b n p"]) -> Float[Array, "b n d"]:
        channels = patches.shape[-1] // (self.patch_size[0] * self.patch_size[1])
        shape = (*self.patch_size, channels, self.width)
        kernel = self.param("kernel", kernel_initializer(self.initialization, 3), shape)
        bias = self.param("bias", bias_initializer(self.initialization, shape[:3]), (self.width,))
        kernel = kernel.reshape(-1, self.width).astype(self.dtype)
        product = jnp.einsum("bnp,pd->bnd", patches.astype(self.dtype), kernel, preferred_element_type=jnp.float32)
        return (product + bias).astype(self.dtype)


class PositionTable(nn.Module):
    """Absolute positions; a fixed table is a parameter that gets no gradient.

    A learned one starts from the fixed values too, unless `initialization` names a distribution.
    """

    grid: Pair
    width: int
    prefix: int = 1
    kind: str = "sincos"
    initialization: str = ""

    @nn.compact
    def __call__(self) -> Float[Array, "n d"]:
        if self.kind == "learned" and self.initialization:
            rows = self.prefix + self.grid[0] * self.grid[1]
            return self.param("table", token_initializer(self.initialization), (rows, self.width))
        values = position_table(self.kind, self.grid, self.width, self.prefix)
        table = self.param("table", lambda key: jnp.asarray(values, jnp.float32))
        return table if self.kind == "learned" else jax.lax.stop_gradient(table)


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
        dropout_key: Any = None,
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

    def _embed(self, images: Any, keep: Any, mask: Any) -> Float[Array, "b n d"]:
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
        prefix = (self._prefix() + prefix_positions).astype(dtype)
        prefix = jnp.broadcast_to(prefix, (images.shape[0], *prefix.shape))
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

    def _positions(self) -> tuple[Any, Any]:
        """What is added to the prefix tokens, and to the patches."""
        config = self.config
        if config.position == "none":
            return jnp.zeros((config.prefix, config.width)), jnp.zeros((config.patches, config.width))
        initialization = "" if config.kernel_init == "xavier_uniform" else config.kernel_init
        arguments = config.grid, config.width, config.position_prefix, config.position, initialization
        table = PositionTable(*arguments, name="pos_embed")()
        without = jnp.zeros((config.prefix - config.position_prefix, config.width))
        return jnp.concatenate([table[: config.position_prefix], without]), table[config.position_prefix :]

    def _shared_bias(self) -> Any:
        config = self.config
        if config.relative_position_bias != "shared":
            return None
        arguments = config.grid, config.num_heads, config.class_token
        return RelativePositionBias(*arguments, name="relative_position_bias")()
