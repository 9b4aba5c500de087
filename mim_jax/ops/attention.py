"""Multi-head attention on arrays, and what an observer of it sees."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Windows(NamedTuple):
    """Layout of the attention windows of a block, row-major on the (padded) map.

    Attributes:
        grid: rows and columns of windows.
        size: rows and columns of tokens in a window.
        shift: how far the windows are shifted down and to the right, in tokens (0 or half a window).
        stride: pixels from one token to the next, vertically and horizontally.
    """

    grid: tuple[int, int]
    size: tuple[int, int]
    shift: Any
    stride: tuple[int, int]


class Observation(NamedTuple):
    """What one attention block computed, handed to an observer.

    With windows, queries, keys and values have an axis of windows behind the batch: `[b, w, k, n, e]`, where `n` counts
    the tokens of one window.

    Attributes:
        query: queries after every normalisation but before the scale, `[b, k, n, e]`.
        key: keys, `[b, k, n, e]`.
        value: values, `[b, k, n, e]`.
        scale: factor on the product of query and key (a number, or one per head `[k, 1, 1]`).
        bias: what is added to the scaled logits, broadcastable to `[b, k, n, n]`, or None; a pair of tokens that may
            not see each other has -100 in it.
        block_input: input of the residual branch, before its norm, `[b, n, d]`.
        branch_output: output of the attention branch as it is added to the residual stream (after layer scale or a
            norm behind the branch; before stochastic depth), `[b, n, d]`.
        windows: layout of the attention windows, or None when attention is global.
    """

    query: Float[Array, "*b k n e"]
    key: Float[Array, "*b k n e"]
    value: Float[Array, "*b k n e"]
    scale: Any
    bias: Any
    block_input: Float[Array, "b t d"]
    branch_output: Float[Array, "b t d"]
    windows: Windows | None = None


Observer = Callable[[Observation], Any]
"""Maps one block's `Observation` to a tree of (small) arrays; the encoder stacks the trees over layers."""


def attention_logits(
    query: Float[Array, "*b k n e"], key: Float[Array, "*b k m e"], scale: Any, bias: Any = None
) -> Float[Array, "*b k n m"]:
    """Scaled logits in float32, `scale * query key^T + bias`."""
    logits = jnp.einsum("...ne,...me->...nm", query, key, preferred_element_type=jnp.float32) * scale
    return logits if bias is None else logits + bias


def attention(
    query: Float[Array, "*b k n e"],
    key: Float[Array, "*b k m e"],
    value: Float[Array, "*b k m e"],
    *,
    scale: Any,
    bias: Any = None,
) -> Float[Array, "*b k n e"]:
    """Softmax attention; logits and softmax in float32, result in the values' type."""
    weights = jax.nn.softmax(attention_logits(query, key, scale, bias), axis=-1).astype(value.dtype)
    out = jnp.einsum("...nm,...me->...ne", weights, value, preferred_element_type=jnp.float32)
    return out.astype(value.dtype)
