"""How patches become tokens, and where they are."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.models.encoder import Pair
from mim_jax.models.initialization import bias_initializer, kernel_initializer, token_initializer
from mim_jax.models.layers import Dtype
from mim_jax.ops.positions import position_table
from mim_jax.ops.products import affine


class PatchEmbedding(nn.Module):
    """The convolution whose kernel and stride are a patch, on patches that are cut out already."""

    patch_size: Pair
    width: int
    initialization: str = "xavier_uniform_convolution"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, patches: Float[Array, "b n p"]) -> Float[Array, "b n d"]:
        channels = patches.shape[-1] // (self.patch_size[0] * self.patch_size[1])
        shape = (*self.patch_size, channels, self.width)
        kernel = self.param("kernel", kernel_initializer(self.initialization, 3), shape)
        bias = self.param("bias", bias_initializer(self.initialization, shape[:3]), (self.width,))
        return affine(patches.astype(self.dtype), kernel.reshape(-1, self.width), bias)


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
