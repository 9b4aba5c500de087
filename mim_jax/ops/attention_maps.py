"""Attention of a few queries, for pictures."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from mim_jax.ops.attention import Bias, attention_logits, softmax

_ROUNDING = 1e-6


def attention_of_queries(
    query: Float[Array, "*b k n e"],
    key: Float[Array, "*b k n e"],
    scale: ArrayLike,
    bias: Bias,
    rows: Int[Array | np.ndarray, "m"],
) -> Float[Array, "*b k m n"]:
    """Rows `rows` `[m]` of softmax(scale * query key^T + bias) in float32; no other row is computed.

    Arguments are those of an `Observation`: `bias` is broadcastable to `[*b, k, n, n]`, or None.
    """
    if bias is not None and bias.shape[-2] > 1:
        bias = bias[..., rows, :]
    with jax.default_matmul_precision("highest"):  # accelerators would round float32 products to bfloat16 or TF32
        return softmax(attention_logits(query[..., rows, :], key, scale, bias))


def mass_mask(row: Float[Array, "*b n"], mass: float = 0.6) -> Bool[Array, "*b n"]:
    """The smallest set of patches that holds the share `mass` of the attention of `row` (DINO, Caron et al. 2021).

    `row` need not sum to 1. Of equal patches the first are taken; a row of zeros has none.

    Raises:
        ValueError: if `mass` is not above 0 and at most 1.
    """
    if not 0 < mass <= 1:
        raise ValueError(f"mass is {mass}; choose a share of the attention above 0 and at most 1")
    order = jnp.argsort(row, axis=-1, descending=True)
    ordered = jnp.take_along_axis(row, order, axis=-1)
    before = jnp.cumsum(ordered, axis=-1) - ordered
    # Less than what rounding can make of it, so that six of ten equal patches hold 0.6.
    wanted = (mass - _ROUNDING) * ordered.sum(axis=-1, keepdims=True)
    return jnp.take_along_axis(before < wanted, jnp.argsort(order, axis=-1), axis=-1)
