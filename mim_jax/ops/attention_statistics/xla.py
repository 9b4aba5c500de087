"""The patch queries of a block in plain XLA: all at once, or streamed over blocks of grid rows.

Streamed, the memory is that of one block: it grows with the number of keys, not with its square.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from mim_jax.ops.attention import Bias, attention_logits
from mim_jax.ops.attention_statistics.offsets import aligned_rows, spatial_means
from mim_jax.ops.attention_statistics.sums import PatchSums

Pair = tuple[int, int]
Place = int | Int[Array, ""]

DENSE_LIMIT = 64 * 2**20
"""Bytes of one image's logits from which on they are streamed."""
QUERIES_IN_A_BLOCK = 64
LOWEST = -1e30
"""Stands for the logarithm of a share of zero: 0 times it is 0, which 0 times -inf is not."""


def rows_of_a_block(grid: Pair, num_heads: int, tokens: int) -> int:
    """Grid rows whose queries are done together: all, unless an image's logits are too large for that."""
    rows, columns = grid
    return rows if 4 * num_heads * rows * columns * tokens <= DENSE_LIMIT else streamed_rows(grid)


def streamed_rows(grid: Pair) -> int:
    """Grid rows that make about `QUERIES_IN_A_BLOCK` queries, at least one."""
    rows, columns = grid
    wanted = max(1, QUERIES_IN_A_BLOCK // columns)
    return max(part for part in range(1, rows + 1) if rows % part == 0 and part <= wanted)


def xla_patch_sums(
    query: Float[Array, "b k m e"],
    key: Float[Array, "b k n e"],
    *,
    grid: Pair,
    prefix: int,
    patch_size: Pair,
    scale: ArrayLike,
    bias: Bias = None,
    rows: int | None = None,
) -> PatchSums:
    """`PatchSums` of the patch queries, `rows` rows of the grid at a time (by size if not given).

    `query` holds the patches only, `key` the prefix tokens as well; `bias` is broadcastable to `[b, k, m, n]`.
    """
    rows = rows_of_a_block(grid, query.shape[1], key.shape[2]) if rows is None else rows
    blocks, queries = grid[0] // rows, rows * grid[1]

    def of_block(block: Place) -> PatchSums:
        part = jax.lax.dynamic_slice_in_dim(query, block * queries, queries, axis=2)
        logits = attention_logits(part, key, scale, _rows_of_bias(bias, block * queries, queries))
        return _block_sums(logits, block * rows, grid, prefix)

    if blocks == 1:
        sums = of_block(0)
    else:
        start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(of_block, 0))
        step = lambda total, block: (jax.tree.map(jnp.add, total, of_block(block)), None)
        sums, _ = jax.lax.scan(step, start, jnp.arange(blocks))
    means = jax.tree.map(lambda total: total / (grid[0] * grid[1]), sums)
    return means._replace(spatial=spatial_means(means.aligned, patch_size))


def dense_patch_sums(logits: Float[Array, "b k m n"], *, grid: Pair, prefix: int, patch_size: Pair) -> PatchSums:
    """The same from the logits of all patch queries."""
    means = jax.tree.map(lambda total: total / (grid[0] * grid[1]), _block_sums(logits, 0, grid, prefix))
    return means._replace(spatial=spatial_means(means.aligned, patch_size))


def _rows_of_bias(bias: Bias, start: Place, count: int) -> Bias:
    if bias is None or bias.shape[-2] == 1:
        return bias
    return jax.lax.dynamic_slice_in_dim(bias, start, count, axis=bias.ndim - 2)


def _block_sums(logits: Float[Array, "b k q n"], first_row: Place, grid: Pair, prefix: int) -> PatchSums:
    """Sums over the queries of whole grid rows from `first_row` on; `spatial` is left to the caller."""
    front, patches = logits[..., :prefix], logits[..., prefix:]
    largest = patches.max(axis=-1)
    below = patches - largest[..., None]  # first, so that large logits do not cancel
    exponentials = jnp.exp(below)
    total = exponentials.sum(axis=-1)
    share = exponentials * (1 / total)[..., None]
    log_share = jnp.maximum(below - jnp.log(total)[..., None], LOWEST)
    own_entropy = -jnp.sum(share * log_share, axis=-1)
    log_patches = largest + jnp.log(total)
    log_all = jnp.logaddexp(log_patches, jax.nn.logsumexp(front, axis=-1)) if prefix else log_patches
    patch_share = jnp.exp(log_patches - log_all)
    front_share = jnp.exp(front - log_all[..., None])
    own = _own_keys(share, first_row * grid[1])
    mixture = share.mean(axis=1)
    weighted = jnp.sum(share * patch_share[..., None], axis=2)
    flat, flat_log = (values.reshape(*values.shape[:2], -1) for values in (share, log_share))
    return PatchSums(
        cross_entropy=-flat @ flat_log.swapaxes(1, 2),
        mixture_entropy=jax.scipy.special.entr(mixture).sum(axis=(-2, -1)),
        entropy_with_prefix=_entropy_of_both(own_entropy, patch_share, front_share).sum(axis=-1),
        own=(own * patch_share).sum(axis=-1),
        own_of_patches=own.sum(axis=-1),
        received=jnp.concatenate([front_share.sum(axis=2), weighted], axis=-1),
        received_of_patches=share.sum(axis=2),
        spatial=jnp.zeros(()),
        aligned=aligned_rows(share, first_row, grid),
    )


def _own_keys(share: Float[Array, "b k q m"], first: Place) -> Float[Array, "b k q"]:
    """What every query gives to itself, where the first one is patch `first`."""
    square = jax.lax.dynamic_slice_in_dim(share, first, share.shape[2], axis=3)
    return jnp.diagonal(square, axis1=2, axis2=3)


def _entropy_of_both(
    own: Float[Array, "b k q"], patch_share: Float[Array, "b k q"], front_share: Float[Array, "b k q p"]
) -> Float[Array, "b k q"]:
    """Entropy over all keys, from that over patches, their share of the whole, and the shares of the prefix tokens.

    Entropy is of the parts: H = m H' - m log m - sum of p log p over the prefix, with m the share of the patches.
    """
    entr = jax.scipy.special.entr
    return patch_share * own + entr(patch_share) + entr(front_share).sum(axis=-1)
