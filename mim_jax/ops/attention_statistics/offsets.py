"""Attention by offset from query to key: the one map from which distances, offsets and local shares follow."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mim_jax.ops.attention_statistics.sums import LOCAL_SIZES

Pair = tuple[int, int]


def aligned_rows(
    share: Float[Array, "b k q m"], first_row: int | Int[Array, ""], grid: Pair
) -> Float[Array, "b k Y X"]:
    """Sum of the attention maps of whole rows of queries, each moved so that its query is in the middle.

    The queries are those of consecutive rows of the grid from `first_row` on; the result is of
    `[2 rows - 1, 2 columns - 1]`.
    """
    rows, columns = grid
    maps = share.reshape(*share.shape[:2], -1, columns, rows, columns)
    # Query by query into place: slices of whole rows, which is several times faster than a gather.
    beside = jnp.zeros((*maps.shape[:3], rows, 2 * columns - 1), share.dtype)
    for column in range(columns):
        place = slice(columns - 1 - column, 2 * columns - 1 - column)
        beside = beside.at[..., place].add(maps[:, :, :, column])
    total = jnp.zeros((*maps.shape[:2], 2 * rows - 1, 2 * columns - 1), share.dtype)
    for row in range(maps.shape[2]):
        start = rows - 1 - (first_row + row)
        seen = jax.lax.dynamic_slice_in_dim(total, start, rows, axis=2) + beside[:, :, row]
        total = jax.lax.dynamic_update_slice_in_dim(total, seen, start, axis=2)
    return total


def spatial_means(aligned: Float[Array, "*b Y X"], patch_size: Pair) -> Float[Array, "*b s"]:
    """Expectations under an aligned map of mass one, in the order of `SPATIAL`."""
    grid = (aligned.shape[-2] + 1) // 2, (aligned.shape[-1] + 1) // 2
    table = jnp.asarray(spatial_table(grid, patch_size), jnp.float32)
    with jax.default_matmul_precision("highest"):
        return jnp.einsum("...yx,syx->...s", aligned, table)


def spatial_table(grid: Pair, patch_size: Pair) -> Float[np.ndarray, "s Y X"]:
    """What `SPATIAL` takes the expectation of, at every offset."""
    rows, columns = (np.arange(1 - side, side) for side in grid)
    down, right = np.meshgrid(rows, columns, indexing="ij")
    y, x = down * float(patch_size[0]), right * float(patch_size[1])
    distance = np.hypot(y, x)
    local = [np.maximum(np.abs(down), np.abs(right)) <= size // 2 for size in LOCAL_SIZES]
    return np.stack([distance, distance**2, y, x, *(near.astype(np.float64) for near in local)])
