"""Multi-head attention on arrays, and what an observer of it sees."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int

from mim_jax.ops.products import product
from mim_jax.ops.showing import shown

Bias = Float[Array | np.ndarray, "..."] | None
"""What is added to scaled logits, of a shape that can be broadcast to theirs."""


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
    shift: tuple[int | Int[Array, ""], int | Int[Array, ""]]
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
        block_output: what the block returns, behind its MLP, `[b, n, d]`.
    """

    query: Float[Array, "*b k n e"]
    key: Float[Array, "*b k n e"]
    value: Float[Array, "*b k n e"]
    scale: ArrayLike
    bias: Bias
    block_input: Float[Array, "b t d"]
    branch_output: Float[Array, "b t d"]
    windows: Windows | None = None
    block_output: Float[Array, "b t d"] | None = None

    def __repr__(self) -> str:
        return shown(self)


Observer = Callable[[Observation], Any]
"""Maps one block's `Observation` to a tree of (small) arrays; the encoder stacks the trees over layers."""


Heads = Float[Array, "*b k n e"]


@jax.custom_vjp
def split_heads(projected: Float[Array, "*b n 3 k e"]) -> tuple[Heads, Heads, Heads]:
    """Queries, keys and values from one product.

    The derivative is written out because that of the slices would be a sum of three arrays of mostly zeros.
    """
    return _split(projected)


def _split(projected: Float[Array, "*b n 3 k e"]) -> tuple[Heads, Heads, Heads]:
    query, key, value = jnp.moveaxis(projected.swapaxes(-4, -2), -3, 0)
    return query, key, value


def _split_forward(projected: Float[Array, "*b n 3 k e"]) -> tuple[tuple[Heads, Heads, Heads], None]:
    return _split(projected), None


def _split_backward(_: None, gradients: tuple[Heads, Heads, Heads]) -> tuple[Float[Array, "*b n 3 k e"]]:
    return (jnp.stack([gradient.swapaxes(-3, -2) for gradient in gradients], axis=-3),)


split_heads.defvjp(_split_forward, _split_backward)


def attention_logits(
    query: Float[Array, "*b k n e"],
    key: Float[Array, "*b k m e"],
    scale: ArrayLike,
    bias: Bias = None,
) -> Float[Array, "*b k n m"]:
    """Scaled logits in float32, `scale * query key^T + bias`."""
    logits = product(query, key, "...ne,...me->...nm") * scale
    return logits if bias is None else logits + bias


def attention(
    query: Float[Array, "*b k n e"],
    key: Float[Array, "*b k m e"],
    value: Float[Array, "*b k m e"],
    *,
    scale: ArrayLike,
    bias: Bias = None,
) -> Float[Array, "*b k n e"]:
    """Softmax attention; logits and softmax in float32, result in the values' type."""
    weights = softmax(attention_logits(query, key, scale, bias), value.dtype)
    return product(weights, value, "...nm,...me->...ne").astype(value.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def softmax(logits: Float[Array, "*b m"], dtype: DTypeLike = jnp.float32) -> Float[Array, "*b m"]:
    """Softmax over the last axis in float32, returned in `dtype`; the derivative keeps nothing but the result."""
    return _softmax_forward(logits, dtype)[0]


def _softmax_forward(
    logits: Float[Array, "*b m"], dtype: DTypeLike
) -> tuple[Float[Array, "*b m"], Float[Array, "*b m"]]:
    shares = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    weights = (shares * (1 / shares.sum(axis=-1, keepdims=True))).astype(dtype)
    return weights, weights


def _softmax_backward(
    dtype: DTypeLike, kept: Float[Array, "*b m"], gradient: Float[Array, "*b m"]
) -> tuple[Float[Array, "*b m"]]:
    weights, gradient = kept.astype(jnp.float32), gradient.astype(jnp.float32)
    return (weights * (gradient - (weights * gradient).sum(axis=-1, keepdims=True)),)


softmax.defvjp(_softmax_forward, _softmax_backward)
