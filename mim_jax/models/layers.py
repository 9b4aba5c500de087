"""The layers that every encoder and decoder is made of.

Parameters are float32. `dtype` is the type of the computation; products accumulate in float32, norms and softmax are
computed in float32.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from mim_jax.models.initialization import bias_initializer, kernel_initializer
from mim_jax.ops.activations import ACTIVATIONS
from mim_jax.ops.normalization import layer_norm
from mim_jax.ops.products import affine

Dtype = DTypeLike

Rate = float | Float[Array, ""]
DropPath = tuple[PRNGKeyArray | None, Rate]
"""Key and rate of stochastic depth of a block; a key of None switches it off."""


def drop_path(branch: Float[Array, "b *n d"], key: PRNGKeyArray | None, rate: Rate) -> Float[Array, "b *n d"]:
    """Stochastic depth (Huang et al. 2016): drops the branch of a sample with probability `rate`.

    The kept ones are divided by `1 - rate`. Without a key nothing is dropped.
    """
    if key is None:
        return branch
    uniform = jax.random.uniform(key, (branch.shape[0],) + (1,) * (branch.ndim - 1))
    keep = jnp.floor(1 - rate + uniform)
    return (branch / (1 - rate) * keep).astype(branch.dtype)


class Dense(nn.Module):
    """Affine map of the last `inputs` axes to `features`, which may be several axes.

    Attributes:
        features: axes of the output.
        inputs: number of axes that are contracted.
        use_bias: whether a bias is added.
        kernel_init: a name of `initialization.KERNELS`, which also tells how the bias starts.
        dtype: type of the computation.
        result: type that the result is rounded to; None for `dtype`.
    """

    features: tuple[int, ...]
    inputs: int = 1
    use_bias: bool = True
    kernel_init: str = "xavier_uniform"
    dtype: Dtype = jnp.float32
    result: Dtype | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        fan_in = x.shape[x.ndim - self.inputs :]
        kernel = self.param("kernel", kernel_initializer(self.kernel_init, self.inputs), fan_in + self.features)
        bias = self.param("bias", bias_initializer(self.kernel_init, fan_in), self.features) if self.use_bias else None
        return affine(x.astype(self.dtype), kernel, bias, self.inputs, self.result)


class LayerNorm(nn.Module):
    """Layer normalisation with biased variance, computed in float32."""

    epsilon: float
    dtype: Dtype = jnp.float32
    initial_scale: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        scale = self.param("scale", nn.initializers.constant(self.initial_scale), x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return layer_norm(x, scale, bias, self.epsilon).astype(self.dtype)


class Mlp(nn.Module):
    """Two dense layers with an activation between, a name of `ops.activations.ACTIVATIONS`."""

    hidden: int
    kernel_init: str = "xavier_uniform"
    dtype: Dtype = jnp.float32
    activation: str = "gelu"

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        dense = partial(Dense, kernel_init=self.kernel_init, dtype=self.dtype)
        hidden = dense((self.hidden,), name="fc1")(x)
        return dense((x.shape[-1],), name="fc2")(ACTIVATIONS[self.activation](hidden))


class GatedMlp(nn.Module):
    """SwiGLU (Shazeer 2020) as in DINOv2: one map makes two halves, the SiLU of the first multiplies the second."""

    hidden: int
    kernel_init: str = "xavier_uniform"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        dense = partial(Dense, kernel_init=self.kernel_init, dtype=self.dtype)
        halves = dense((2, self.hidden), name="w12")(x)
        gated = nn.silu(halves[..., 0, :]) * halves[..., 1, :]
        return dense((x.shape[-1],), name="w3")(gated)
