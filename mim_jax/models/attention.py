"""Self-attention in every flavour of the encoders: bias of the projection, norms, cosine logits, relative positions."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mim_jax.models.layers import Dense, Dtype, LayerNorm
from mim_jax.ops.attention import Bias, Heads, attention, split_heads
from mim_jax.ops.relative_positions import log_spaced_offsets, relative_position_bias, table_rows

Pair = tuple[int, int]

QKV_BIASES = ("all", "query_value", "none")

LARGEST_COSINE_SCALE = 100.0
INITIAL_COSINE_SCALE = 10.0
CONTINUOUS_BIAS_HIDDEN = 512
CONTINUOUS_BIAS_RANGE = 16.0
SHORTEST = 1e-12  # a vector is divided by its length or by this, whichever is more


@dataclasses.dataclass(frozen=True)
class AttentionConfig:
    """What defines an attention layer.

    Attributes:
        num_heads: heads; must divide the width.
        qkv_bias: which of query, key and value get a bias: "all", "query_value" or "none".
        query_key_norm: layer norm over the width of a head on queries and keys.
        cosine: logits are cosines times a trained scale per head (SwinV2) instead of scaled products.
        bias_window: rows and columns of tokens that a relative position bias of this layer spans, or None.
        bias_class_token: whether that bias knows a class token in front of the window.
        bias_deviation: deviation that the table of the bias starts with.
        reference_window: computes the bias by a small network from log-spaced offsets relative to this window
            (SwinV2) instead of a table.
        norm_epsilon: epsilon of the norms.
        kernel_init: how kernels start.
    """

    num_heads: int
    qkv_bias: str = "all"
    query_key_norm: bool = False
    cosine: bool = False
    bias_window: Pair | None = None
    bias_class_token: bool = False
    bias_deviation: float = 0.0
    reference_window: Pair | None = None
    norm_epsilon: float = 1e-6
    kernel_init: str = "xavier_uniform"


class RelativePositionBias(nn.Module):
    """Bias from a trained table with a row for every offset."""

    window: Pair
    num_heads: int
    class_token: bool = False
    initial_deviation: float = 0.0

    @nn.compact
    def __call__(self) -> Float[Array, "k n n"]:
        initial = nn.initializers.normal(self.initial_deviation) if self.initial_deviation else nn.initializers.zeros
        table = self.param("table", initial, (table_rows(self.window, self.class_token), self.num_heads))
        return relative_position_bias(table, self.window, self.class_token)


class ContinuousPositionBias(nn.Module):
    """Bias that a small network computes from log-spaced offsets (Liu et al. 2022, section 3.3)."""

    window: Pair
    reference: Pair
    num_heads: int

    @nn.compact
    def __call__(self) -> Float[Array, "k n n"]:
        offsets = jnp.asarray(log_spaced_offsets(self.window, self.reference))
        with jax.default_matmul_precision("highest"):
            hidden = Dense((CONTINUOUS_BIAS_HIDDEN,), kernel_init="normal", name="fc1")(offsets)
            table = Dense((self.num_heads,), use_bias=False, kernel_init="normal", name="fc2")(nn.relu(hidden))
        return relative_position_bias(CONTINUOUS_BIAS_RANGE * nn.sigmoid(table), self.window)


class Attention(nn.Module):
    """Multi-head self-attention over the second last axis."""

    config: AttentionConfig
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b n d"], bias: Bias = None) -> tuple[Float[Array, "*b n d"], dict[str, Any]]:
        """Returns the output and the arguments that an `Observation` needs of it.

        `bias` is added to the logits beside the layer's own.
        """
        config, width = self.config, x.shape[-1]
        query, key, value = self._project(x)
        if config.query_key_norm:
            query = LayerNorm(config.norm_epsilon, self.dtype, name="q_norm")(query)
            key = LayerNorm(config.norm_epsilon, self.dtype, name="k_norm")(key)
        scale = (width // config.num_heads) ** -0.5
        if config.cosine:
            query, key, scale = _unit_length(query), _unit_length(key), self._cosine_scale()
        bias = _add(self._position_bias(), bias)
        heads = attention(query, key, value, scale=scale, bias=bias)
        project = Dense((width,), inputs=2, kernel_init=config.kernel_init, dtype=self.dtype, name="proj")
        out = project(heads.swapaxes(-3, -2))
        return out, {"query": query, "key": key, "value": value, "scale": scale, "bias": bias}

    def _project(self, x: Float[Array, "*b n d"]) -> tuple[Heads, Heads, Heads]:
        """Queries, keys and values `[*b, k, n, e]` from one product, whose kernel is `[d, 3, k, e]`."""
        config = self.config
        features = (3, config.num_heads, x.shape[-1] // config.num_heads)
        biased, initial = config.qkv_bias == "all", config.kernel_init
        qkv = Dense(features, use_bias=biased, kernel_init=initial, dtype=self.dtype, name="qkv")(x)
        if config.qkv_bias == "query_value":
            query, value = (self.param(name, nn.initializers.zeros, features[1:]) for name in ("q_bias", "v_bias"))
            qkv = (qkv + jnp.stack([query, jnp.zeros_like(query), value])).astype(self.dtype)
        return split_heads(qkv)

    def _cosine_scale(self) -> Float[Array, "k 1 1"]:
        """The trained scale of every head, kept at 100 at most."""
        initial = nn.initializers.constant(np.log(INITIAL_COSINE_SCALE))
        logarithm = self.param("logit_scale", initial, (self.config.num_heads,))
        return jnp.exp(jnp.minimum(logarithm, np.log(LARGEST_COSINE_SCALE)))[:, None, None]

    def _position_bias(self) -> Float[Array, "k n n"] | None:
        config = self.config
        if config.bias_window is None:
            return None
        if config.reference_window is not None:
            arguments = config.bias_window, config.reference_window, config.num_heads
            return ContinuousPositionBias(*arguments, name="position_mlp")()
        arguments = config.bias_window, config.num_heads, config.bias_class_token, config.bias_deviation
        return RelativePositionBias(*arguments, name="relative_position_bias")()


def _unit_length(x: Float[Array, "*b e"]) -> Float[Array, "*b e"]:
    """Vectors divided by their length, in float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis=-1, keepdims=True), SHORTEST**2))


def _add(one: Bias, other: Bias) -> Bias:
    if one is None or other is None:
        return other if one is None else one
    return one + other
