"""What defines a Vision Transformer."""

import dataclasses

from mim_jax.models.attention import QKV_BIASES, AttentionConfig
from mim_jax.models.blocks import BlockConfig
from mim_jax.models.encoder import Pair
from mim_jax.ops.activations import ACTIVATIONS
from mim_jax.ops.patches import patch_grid

CHOICES = {
    "position": ("sincos", "sincos_rows_first", "learned", "none"),
    "relative_position_bias": ("none", "shared", "per_block"),
    "qkv_bias": QKV_BIASES,
    "mlp": ("gelu", "swiglu"),
    "activation": tuple(ACTIVATIONS),
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
        mlp: "gelu", two layers with an activation between, or "swiglu".
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
        activation: between the two layers of an MLP: "gelu" (exact), "quick_gelu" or "gelu_tanh"; SwiGLU has none.
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
    activation: str = "gelu"
    drop_path_rate: float = 0.0
    kernel_init: str = "xavier_uniform"
    embedding_init: str = "xavier_uniform_convolution"
    rescale_by_depth: bool = False

    def __post_init__(self) -> None:
        patch_grid(self.image_size, self.patch_size)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not '{getattr(self, name)}'")
        if self.mlp == "swiglu" and self.activation != "gelu":
            raise ValueError(f"SwiGLU has no activation to choose, so activation must not be '{self.activation}'")
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
        return BlockConfig(attention, self.mlp, self.mlp_ratio, self.layer_scale, self.norm_epsilon, self.activation)
