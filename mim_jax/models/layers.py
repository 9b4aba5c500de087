"""The layers that every encoder and decoder is made of.

Parameters are float32. `dtype` is the type of the computation; products accumulate in float32, norms and softmax are
computed in float32.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.ops.attention import Observation, Observer, attention
from mim_jax.ops.normalization import layer_norm

Dtype = Any


def xavier_uniform(inputs: tuple[int, ...], outputs: tuple[int, ...]) -> nn.initializers.Initializer:
    """Glorot's uniform initialiser for a kernel whose `inputs` and `outputs` axes are several."""
    return nn.initializers.variance_scaling(1.0, "fan_avg", "uniform", in_axis=inputs, out_axis=outputs)


def drop_path(branch: Float[Array, "b n d"], key: Any, rate: Any) -> Float[Array, "b n d"]:
    """Stochastic depth (Huang et al. 2016): drops the branch of a sample with probability `rate`.

    The kept ones are divided by `1 - rate`. Without a key nothing is dropped.
    """
    if key is None:
        return branch
    uniform = jax.random.uniform(key, (branch.shape[0], 1, 1))
    keep = jnp.floor(1 - rate + uniform)
    return (branch / (1 - rate) * keep).astype(branch.dtype)


class Dense(nn.Module):
    """Affine map of the last `inputs` axes to `features`, which may be several axes."""

    features: tuple[int, ...]
    inputs: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        fan_in = x.shape[x.ndim - self.inputs :]
        shape = fan_in + self.features
        axes = tuple(range(len(shape)))
        kernel = self.param("kernel", xavier_uniform(axes[: self.inputs], axes[self.inputs :]), shape)
        bias = self.param("bias", nn.initializers.zeros, self.features)
        contract = tuple(range(x.ndim - self.inputs, x.ndim)), tuple(range(self.inputs))
        product = jax.lax.dot_general(
            x.astype(self.dtype), kernel.astype(self.dtype), (contract, ((), ())), preferred_element_type=jnp.float32
        )
        return (product + bias).astype(self.dtype)


class LayerNorm(nn.Module):
    """Layer normalisation with biased variance, computed in float32."""

    epsilon: float
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return layer_norm(x, scale, bias, self.epsilon).astype(self.dtype)


class Mlp(nn.Module):
    """Two dense layers with an exact (erf) GELU between."""

    hidden: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        hidden = Dense((self.hidden,), dtype=self.dtype, name="fc1")(x)
        return Dense((x.shape[-1],), dtype=self.dtype, name="fc2")(nn.gelu(hidden, approximate=False))


class Attention(nn.Module):
    """Multi-head self-attention with a fused projection to query, key and value, kept apart by axes `[d, 3, k, e]`."""

    num_heads: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> tuple[Float[Array, "b n d"], dict[str, Any]]:
        """Returns the output and the arguments that an `Observation` needs of it."""
        width = x.shape[-1]
        head_width = width // self.num_heads
        qkv = Dense((3, self.num_heads, head_width), dtype=self.dtype, name="qkv")(x)
        query, key, value = jnp.transpose(qkv, (2, 0, 3, 1, 4))
        scale = head_width**-0.5
        heads = attention(query, key, value, scale=scale)
        out = Dense((width,), inputs=2, dtype=self.dtype, name="proj")(jnp.transpose(heads, (0, 2, 1, 3)))
        return out, {"query": query, "key": key, "value": value, "scale": scale, "bias": None}


class Block(nn.Module):
    """Pre-norm transformer block: attention and MLP, each on a residual branch."""

    num_heads: int
    mlp_ratio: float
    norm_epsilon: float
    dtype: Dtype = jnp.float32
    observer: Observer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], path: tuple[Any, Any]) -> tuple[Float[Array, "b n d"], Any]:
        """Returns the block's output and what the observer made of it.

        `path` holds the key and the rate of stochastic depth, a key of None switches it off.
        """
        key, rate = path
        keys = (None, None) if key is None else jax.random.split(key)
        normed = LayerNorm(self.norm_epsilon, self.dtype, name="norm1")(x)
        branch, seen = Attention(self.num_heads, self.dtype, name="attn")(normed)
        observed = None
        if self.observer is not None:
            observed = self.observer(Observation(**seen, block_input=x, branch_output=branch))
        x = x + drop_path(branch, keys[0], rate)
        normed = LayerNorm(self.norm_epsilon, self.dtype, name="norm2")(x)
        branch = Mlp(int(x.shape[-1] * self.mlp_ratio), self.dtype, name="mlp")(normed)
        return x + drop_path(branch, keys[1], rate), observed
