"""How far and how broadly a head attends: attention distance and entropy.

All statistics are per image and head, in float32, straight from the logits of one block: with s the logits of a
query, L = logsumexp(s) and p = exp(s - L), the entropy is L - E_p[s] exactly, so no epsilon enters anywhere.
"Patch attention" means queries and keys that are patches: prefix tokens (class, registers) are dropped from the
logits, which is the same as renormalising the probabilities and stays exact when a prefix token takes all of them.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mim_jax.ops.attention import attention_logits

Pair = tuple[int, int]


class AttentionStatistics(NamedTuple):
    """Statistics of one attention block, each per image and head.

    Attributes:
        attention_distance: mean distance from a patch to the patches it attends to, in pixels.
        attention_entropy: entropy of patch attention, mean over patch queries, in nats.
        attention_entropy_with_prefix: entropy over all keys, mean over all queries, nothing dropped, in nats.
    """

    attention_distance: Float[Array, "b k"]
    attention_entropy: Float[Array, "b k"]
    attention_entropy_with_prefix: Float[Array, "b k"]


@functools.partial(jax.jit, static_argnames=("grid", "prefix", "patch_size"))
def attention_statistics(
    query: Float[Array, "b k n e"],
    key: Float[Array, "b k n e"],
    *,
    grid: Pair,
    prefix: int,
    patch_size: int | Pair,
    scale: Any = None,
    bias: Any = None,
) -> AttentionStatistics:
    """Statistics of softmax(scale * query key^T + bias).

    `query` and `key` hold `prefix` tokens, then the patches of `grid` row-major. `scale` is 1 / sqrt(e) unless
    given; `bias` is broadcastable to `[b, k, n, n]`; `patch_size` is in pixels (rows, columns, or one number).

    Raises:
        ValueError: if the number of tokens is not `prefix` plus the patches of `grid`.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    with jax.default_matmul_precision("highest"):  # accelerators would round float32 products to bfloat16 or TF32
        logits = attention_logits(query, key, scale, bias)
    return statistics_of_logits(logits, grid=grid, prefix=prefix, patch_size=patch_size)


@functools.partial(jax.jit, static_argnames=("grid", "prefix", "patch_size"))
def statistics_of_logits(
    logits: Float[Array, "b k n n"], *, grid: Pair, prefix: int, patch_size: int | Pair
) -> AttentionStatistics:
    """The same as `attention_statistics` from the logits before the softmax."""
    if logits.shape[-1] != prefix + grid[0] * grid[1]:
        raise ValueError(
            f"{logits.shape[-1]} tokens are not {prefix} prefix tokens and a grid of {grid[0]} x {grid[1]} patches"
        )
    patches = logits[..., prefix:, prefix:]
    return AttentionStatistics(
        attention_distance(patches, grid=grid, patch_size=patch_size),
        attention_entropy(patches),
        attention_entropy(logits),
    )


def attention_distance(logits: Float[Array, "b k n n"], *, grid: Pair, patch_size: int | Pair) -> Float[Array, "b k"]:
    """Attention-weighted Euclidean distance in pixels between the centres of query and key patch, mean over queries.

    `logits` are patch to patch only. The patch itself counts, with distance 0 (Dosovitskiy et al. 2021).
    """
    weights = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    return jnp.sum(weights * patch_distances(grid, patch_size), axis=-1).mean(axis=-1)


def attention_entropy(logits: Float[Array, "b k m n"]) -> Float[Array, "b k"]:
    """Entropy in nats of softmax(logits) over the keys, mean over queries; a key at -inf counts as absent."""
    logits = logits.astype(jnp.float32)
    # Relative to the largest logit, so that the difference below does not cancel when logits are large.
    logits = logits - logits.max(axis=-1, keepdims=True)
    log_sum = jax.nn.logsumexp(logits, axis=-1)
    weights = jnp.exp(logits - log_sum[..., None])
    expected = jnp.sum(jnp.where(weights > 0, weights * logits, 0), axis=-1)
    return jnp.maximum(log_sum - expected, 0).mean(axis=-1)


def patch_distances(grid: Pair, patch_size: int | Pair) -> Float[Array, "n n"]:
    """Euclidean distance in pixels between the centres of every two patches, row-major."""
    height, width = _pair(patch_size)
    # From indices, inside the program: a constant would be 67 MB for 64 x 64 patches.
    rows, columns = jnp.divmod(jnp.arange(grid[0] * grid[1]), grid[1])
    return jnp.hypot((rows[:, None] - rows) * float(height), (columns[:, None] - columns) * float(width))


def uniform_attention_distance(grid: Pair, patch_size: int | Pair) -> float:
    """Attention distance in pixels of a head that attends to every patch alike, itself included."""
    height, width = _pair(patch_size)
    rows, columns = (np.arange(1 - side, side) for side in grid)
    # Of a side of g patches, g - |offset| pairs lie at an offset.
    pairs = np.outer(grid[0] - np.abs(rows), grid[1] - np.abs(columns))
    return float((pairs * np.hypot(rows[:, None] * height, columns * width)).sum() / pairs.sum())


def uniform_attention_entropy(grid: Pair, prefix: int = 0) -> float:
    """Entropy in nats of a head that attends to every patch (and `prefix` tokens more) alike."""
    return float(np.log(prefix + grid[0] * grid[1]))


def _pair(size: int | Pair) -> Pair:
    return (size, size) if isinstance(size, int) else size
