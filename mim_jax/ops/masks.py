"""Interchangeable ways to choose the masked patches, and how far a mask keeps them from the visible ones."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from mim_jax.ops.masking import random_mask
from mim_jax.ops.patches import Pair

BLOCK_ATTEMPTS = 10
"""How often block-wise masking tries to place a block before it stops."""


def uniform_mask(key: PRNGKeyArray, batch: int, grid: Pair, ratio: float) -> Float[Array, "b n"]:
    """Every patch on its own, `n - int(n * (1 - ratio))` of them masked (MAE, He et al. 2022).

    1 is masked, 0 visible, patches row-major. Raises ValueError if the ratio is out of range or leaves nothing visible.
    """
    return random_mask(jax.random.uniform(key, (batch, grid[0] * grid[1])), ratio).mask


def coarse_mask(key: PRNGKeyArray, batch: int, grid: Pair, ratio: float, cell: Pair = (1, 1)) -> Float[Array, "b n"]:
    """Cells of `cell` patches, `ceil(ratio * cells)` of them masked (SimMIM, Xie et al. 2022).

    1 is masked, 0 visible, patches row-major. Raises ValueError if the cell does not divide the grid, or the ratio is
    out of range or leaves no cell visible.
    """
    if grid[0] % cell[0] or grid[1] % cell[1]:
        raise ValueError(
            f"grid of {grid[0]}x{grid[1]} patches is no multiple of the mask cell of {cell[0]}x{cell[1]} patches; "
            "choose a cell that divides the grid"
        )
    rows, columns = grid[0] // cell[0], grid[1] // cell[1]
    masked = _number_masked(rows * columns, ratio)
    shuffle = jnp.argsort(jax.random.uniform(key, (batch, rows * columns)), axis=1)
    return spread_cells((jnp.argsort(shuffle, axis=1) < masked).astype(jnp.float32), (rows, columns), cell)


def spread_cells(mask: Float[Array, "b m"], grid: Pair, cell: Pair) -> Float[Array, "b n"]:
    """A mask of a `grid` of cells as one of patches, `cell` of them (rows, columns) in each."""
    cells = mask.reshape(-1, *grid)
    return jnp.repeat(jnp.repeat(cells, cell[0], axis=1), cell[1], axis=2).reshape(mask.shape[0], -1)


def _number_masked(cells: int, ratio: float) -> int:
    _check_ratio(ratio)
    masked = math.ceil(ratio * cells - 1e-9)  # a product that should be whole may lie a rounding error above it
    if masked == cells:
        raise ValueError(f"mask ratio {ratio} leaves none of the {cells} mask cells visible; lower it or add cells")
    return masked


def blockwise_mask(
    key: PRNGKeyArray,
    batch: int,
    grid: Pair,
    ratio: float,
    min_patches: int = 16,
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> Float[Array, "b n"]:
    """Rectangular blocks, at most `T = int(ratio * n)` patches in all (BEiT, Bao et al. 2022, algorithm 1).

    One attempt, with R patches missing to T: the area is uniform between `min_patches` (at most T) and R, in either
    order; the ratio of height to width is log-uniform in `aspect`; height `round(sqrt(area * ratio))` and width
    `round(sqrt(area / ratio))`; the place is uniform among those inside the grid. The block is added if it fits into
    the grid and brings at least one and at most R new patches. Ends with T patches masked, or after 10 attempts in a
    row in which no block was added; so a few patches may be missing to T.

    1 is masked, 0 visible, patches row-major. Raises ValueError if the ratio is out of range.
    """
    _check_ratio(ratio)
    target = int(ratio * grid[0] * grid[1])
    draw = partial(_random_block, grid=grid, min_patches=min(min_patches, target), aspect=aspect)
    return _flatten(jax.vmap(partial(_add_blocks, draw=draw, grid=grid, target=target))(jax.random.split(key, batch)))


_Placing = tuple[PRNGKeyArray, Bool[Array, "rows columns"], Int[Array, ""]]
"""Key, mask so far, failures in a row."""


def _add_blocks(
    key: PRNGKeyArray, *, draw: Callable[..., Bool[Array, "rows columns"]], grid: Pair, target: int
) -> Bool[Array, "rows columns"]:
    def attempt(state: _Placing) -> _Placing:
        key, mask, failures = state
        key, block_key = jax.random.split(key)
        grown = mask | draw(block_key, remaining=target - mask.sum())
        added = (grown.sum() > mask.sum()) & (grown.sum() <= target)
        return key, jnp.where(added, grown, mask), jnp.where(added, 0, failures + 1)

    def unfinished(state: _Placing) -> Bool[Array, ""]:
        return (state[1].sum() < target) & (state[2] < BLOCK_ATTEMPTS)

    return jax.lax.while_loop(unfinished, attempt, (key, jnp.zeros(grid, bool), jnp.zeros((), int)))[1]


def _random_block(
    key: PRNGKeyArray, *, remaining: Int[Array, ""], grid: Pair, min_patches: int, aspect: tuple[float, float]
) -> Bool[Array, "rows columns"]:
    """One block as a mask; an empty one if it does not fit into the grid."""
    size, shape, top, left = jax.random.uniform(key, (4,))
    area = min_patches + size * (remaining - min_patches)
    root = jnp.exp((math.log(aspect[0]) + shape * math.log(aspect[1] / aspect[0])) / 2)
    height, width = jnp.round(jnp.sqrt(area) * root), jnp.round(jnp.sqrt(area) / root)
    inside = _interval(grid[0], height, top)[:, None] & _interval(grid[1], width, left)
    return inside & (height <= grid[0]) & (width <= grid[1])


def _interval(size: int, length: Float[Array, ""], place: Float[Array, ""]) -> Bool[Array, "n"]:
    """`length` of `size` positions in a row; `place` in [0, 1) chooses one of the possible starts."""
    start = jnp.floor(place * (size - length + 1))
    return (jnp.arange(size) >= start) & (jnp.arange(size) < start + length)


def grid_mask(key: PRNGKeyArray, batch: int, grid: Pair, ratio: float) -> Float[Array, "b n"]:
    """The same regular mask for every image (MAE's grid-wise sampling); `key` is not used.

    Ratio 0.75 keeps the patches in even rows and even columns, 0.5 those of a checkerboard. 1 is masked, 0 visible,
    patches row-major. Raises ValueError for every other ratio.
    """
    row, column = jnp.meshgrid(jnp.arange(grid[0]), jnp.arange(grid[1]), indexing="ij")
    masked = {0.75: (row % 2 == 1) | (column % 2 == 1), 0.5: (row + column) % 2 == 1}
    if ratio not in masked:
        raise ValueError(f"grid masking has no regular pattern for mask ratio {ratio}; choose 0.75 or 0.5")
    return _flatten(jnp.broadcast_to(masked[ratio], (batch, *grid)))


MASKINGS: dict[str, Callable[..., Float[Array, "b n"]]] = {
    "uniform": uniform_mask,
    "coarse": coarse_mask,
    "blockwise": blockwise_mask,
    "grid": grid_mask,
}
"""Ways of masking by name; all are called `(key, batch, grid, ratio, **their own)`."""


def average_mask_distance(mask: Shaped[Array | np.ndarray, "b rows columns"], cell_size: int) -> float:
    """AvgDist in pixels: mean distance of a masked pixel to the nearest visible one (SimMIM, Xie et al. 2022).

    Args:
        mask: nonzero where a cell is masked.
        cell_size: side of a cell in pixels.

    Distances are Euclidean between pixel centres, averaged over the masked pixels of a mask, then over masks. Raises
    ValueError if a mask has no masked or no visible cell.
    """
    from scipy.ndimage import distance_transform_edt  # slow to import

    cells = np.asarray(mask) != 0
    if not cells.any(axis=(1, 2)).all() or cells.all(axis=(1, 2)).any():
        raise ValueError("AvgDist is undefined for a mask without a masked or without a visible cell; leave it out")
    pixels = cells.repeat(cell_size, axis=1).repeat(cell_size, axis=2)
    return float(np.mean([distance_transform_edt(one)[one].mean() for one in pixels]))


def _check_ratio(ratio: float) -> None:
    if not 0 <= ratio < 1:
        raise ValueError(f"mask ratio {ratio} is out of range; it must be at least 0 and less than 1")


def _flatten(mask: Bool[Array, "b rows columns"]) -> Float[Array, "b n"]:
    return mask.reshape(mask.shape[0], -1).astype(jnp.float32)
