"""Attention rollout: how much of a token's output goes back to which input token (Abnar & Zuidema 2020).

With P the attention of a layer, mean over heads, every layer mixes tokens by (P + I) / 2, for the residual stream
carries the other half; rollout is the product of these matrices over layers.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from mim_jax.ops.attention import Bias, Observation
from mim_jax.ops.attention_maps import attention_of_queries
from mim_jax.ops.products import product


class LogitParts(NamedTuple):
    """What the logits of a block are made of; an encoder stacks them over layers.

    Attributes:
        query: queries, `[b, k, n, e]`.
        key: keys, `[b, k, n, e]`.
        scale: factor on their product, `[]` or `[k, 1, 1]`.
        bias: what is added, broadcastable to `[b, k, n, n]`, or None.
    """

    query: Float[Array, "*l b k n e"]
    key: Float[Array, "*l b k n e"]
    scale: Float[Array, "..."]
    bias: Bias


def logit_parts(observation: Observation) -> LogitParts:
    """An observer that keeps what `class_rollout` needs: `class_rollout(*output.observations)`.

    Raises:
        ValueError: if attention is within windows.
    """
    if observation.windows is not None:
        raise ValueError(
            "this encoder attends within windows, so attention cannot be rolled out over the whole image; "
            "take an encoder with global attention"
        )
    scale = jnp.asarray(observation.scale, jnp.float32)
    return LogitParts(observation.query, observation.key, scale, observation.bias)


@functools.partial(jax.jit, static_argnames=("start", "chunk"))
def class_rollout(
    queries: Float[Array, "l b k n e"],
    keys: Float[Array, "l b k n e"],
    scales: ArrayLike,
    biases: Float[Array, "l ..."] | None = None,
    *,
    start: tuple[int, ...] = (0,),
    chunk: int = 256,
) -> Float[Array, "b m n"]:
    """Rows of the rollout matrix that belong to the tokens `start`, the class token unless given; rows sum to 1.

    No matrix of all tokens is multiplied: from the last layer down a row r becomes (r + mean over heads of r P) / 2.
    Attention is computed for `chunk` queries at a time, which bounds the memory (`b * k * chunk * n` numbers) and does
    not change the result.

    Args:
        queries: of every layer, prefix tokens included.
        keys: of every layer.
        scales: one number, or `[l]`, or `[l, k, 1, 1]`.
        biases: `[l, ...]` with every layer broadcastable to `[b, k, n, n]`, or None.
        start: places of the tokens to start from, among all tokens.
        chunk: queries at a time.

    Raises:
        ValueError: if a token of `start` does not exist.
    """
    layers, batch, _, tokens, _ = queries.shape
    if not all(0 <= token < tokens for token in start):
        raise ValueError(f"start is {start}; the {tokens} tokens are counted from 0 to {tokens - 1}")
    factors = jnp.broadcast_to(scales, (layers,)) if jnp.ndim(scales) == 0 else jnp.asarray(scales)
    shares = jnp.broadcast_to(jax.nn.one_hot(jnp.asarray(start), tokens), (batch, len(start), tokens))

    def down(shares: Float[Array, "b m n"], parts: tuple[Array, Array, Array, Array | None]) -> tuple[Array, None]:
        return (shares + _attended(shares, LogitParts(*parts), chunk)) / 2, None

    return jax.lax.scan(down, shares, (queries, keys, factors, biases), reverse=True)[0]


def _attended(shares: Float[Array, "b m n"], parts: LogitParts, chunk: int) -> Float[Array, "b m n"]:
    """`shares` times attention, mean over heads."""

    def add(
        total: Float[Array, "b m n"], part: tuple[Int[Array | np.ndarray, "r"], Bool[Array | np.ndarray, "r"]]
    ) -> tuple[Array, None]:
        rows, real = part
        attention = attention_of_queries(*parts, rows).mean(axis=1)
        with jax.default_matmul_precision("highest"):
            return total + product(shares[..., rows] * real, attention, "bmr,brn->bmn"), None

    return jax.lax.scan(add, jnp.zeros_like(shares), _chunks(shares.shape[-1], chunk))[0]


def _chunks(tokens: int, chunk: int) -> tuple[Int[np.ndarray, "c r"], Bool[np.ndarray, "c r"]]:
    """Every token once, in rows of at most `chunk`, and False for those that only fill the last row."""
    count = -(-tokens // chunk)
    rows = np.arange(count * -(-tokens // count)).reshape(count, -1)
    return np.minimum(rows, tokens - 1), rows < tokens


def rollout_matrix(attention: Float[Array, "l b k n n"]) -> Float[Array, "b n n"]:
    """The whole rollout matrix from attention after the softmax: row i says where token i comes from.

    A reference for small inputs. Rows are divided by their own sums, so that rows of the result sum to 1 even if some
    of the attention was dropped.
    """
    mixed = attention.astype(jnp.float32).mean(axis=2) + jnp.eye(attention.shape[-1])
    mixed = mixed / mixed.sum(axis=-1, keepdims=True)
    with jax.default_matmul_precision("highest"):
        return functools.reduce(lambda below, layer: product(layer, below, "bij,bjk->bik"), mixed)
