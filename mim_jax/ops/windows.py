"""Windows on a feature map: cutting the map up, shifting it, and keeping apart what a shift brings together."""

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int

from mim_jax.ops.patches import Pair, rows_and_columns

APART = -100.0
"""What is added to the logit of two tokens that only a shift has brought into one window."""


def fit_window(grid: Pair, window: Pair) -> tuple[Pair, Pair]:
    """Window and shift of a stage whose map has `grid` tokens, as in the original code of Swin (Liu et al. 2021).

    A window that reaches the edges of the map on one side is cut down, a square one to the smaller side of the map,
    and is not shifted; otherwise the shift is half the window.
    """
    if all(size > side for size, side in zip(grid, window)):
        return window, half_window(window)
    if window[0] == window[1]:
        return (min(grid), min(grid)), (0, 0)
    return (min(grid[0], window[0]), min(grid[1], window[1])), (0, 0)


def half_window(window: Pair) -> Pair:
    """How far every other block shifts its windows."""
    return window[0] // 2, window[1] // 2


def padded_grid(grid: Pair, window: Pair) -> Pair:
    """Rows and columns of a map after `pad_map`."""
    return -(-grid[0] // window[0]) * window[0], -(-grid[1] // window[1]) * window[1]


def pad_map(features: Float[Array, "b y x d"], window: Pair) -> Float[Array, "b Y X d"]:
    """Adds rows of zeros at the bottom and columns at the right, up to a multiple of the window."""
    grid = rows_and_columns(features)
    below, right = (full - size for full, size in zip(padded_grid(grid, window), grid))
    return jnp.pad(features, ((0, 0), (0, below), (0, right), (0, 0))) if below or right else features


def crop_map(features: Float[Array, "b Y X d"], grid: Pair) -> Float[Array, "b y x d"]:
    """Inverse of `pad_map` for a map that had `grid` tokens."""
    return features[:, : grid[0], : grid[1]]


def partition_windows(features: Float[Array, "b y x d"], window: Pair) -> Float[Array, "b w n d"]:
    """Cuts a map into windows, row-major, each with its tokens row-major; the window must divide the map."""
    return rearrange(features, "b (Y y) (X x) d -> b (Y X) (y x) d", y=window[0], x=window[1])


def join_windows(windows: Float[Array, "b w n d"], grid: Pair, window: Pair) -> Float[Array, "b y x d"]:
    """Inverse of `partition_windows` for a map of `grid` tokens."""
    rows = grid[0] // window[0]
    return rearrange(windows, "b (Y X) (y x) d -> b (Y y) (X x) d", Y=rows, y=window[0], x=window[1])


def cyclic_shift(
    features: Float[Array, "b y x d"], shift: Pair, shifted: Int[Array, ""] | None = None
) -> Float[Array, "b y x d"]:
    """Rolls a map up and to the left by `shift` tokens; a negative shift takes it back.

    `shifted`, where the program is to decide, is a traced 1 or 0: whether to shift at all.
    """
    if not any(shift):
        return features
    rolled = jnp.roll(features, (-shift[0], -shift[1]), axis=(1, 2))
    return rolled if shifted is None else jnp.where(shifted > 0, rolled, features)


def shift_mask(grid: Pair, window: Pair, shift: Pair) -> Float[Array, "w 1 n n"]:
    """What is added to the logits within the windows of a shifted map: 0, or -100 for tokens that were far apart.

    After the shift a map of `grid` tokens consists of three bands of rows and three of columns, cut at a window and
    at the shift before its end; tokens in different ones of the nine regions are kept apart.
    """
    rows, columns = (_bands(*sizes) for sizes in zip(grid, window, shift))
    regions = rearrange(3 * rows[:, None] + columns, "(Y y) (X x) -> (Y X) (y x)", y=window[0], x=window[1])
    # Compared within the program: as a constant the mask of a large window would take many megabytes.
    regions = jnp.asarray(regions)[:, None]
    return jnp.where(regions[..., :, None] == regions[..., None, :], 0.0, APART)


def _bands(size: int, window: int, shift: int) -> Int[np.ndarray, "y"]:
    position = np.arange(size)
    return (position >= size - window).astype(np.int32) + (position >= size - shift)


def halved_grid(grid: Pair) -> Pair:
    """Rows and columns after `merge_neighbours`."""
    return -(-grid[0] // 2), -(-grid[1] // 2)


def merge_neighbours(features: Float[Array, "b y x d"]) -> Float[Array, "b Y X 4*d"]:
    """Puts the channels of every 2x2 tokens one after the other, in the order of (row, column) 00, 10, 01, 11.

    A row or a column that has no neighbour gets one of zeros.
    """
    return rearrange(pad_map(features, (2, 2)), "b (y p) (x q) d -> b y x (q p d)", p=2, q=2)
