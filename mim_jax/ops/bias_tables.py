"""Resizing tables of relative position biases to another window."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from mim_jax.ops.positions import bicubic_matrix

Pair = tuple[int, int]

RATIOS = (1.01, 1.5)  # between these lies the ratio of the geometric progression
RATIO_TOLERANCE = 1e-6
SPLINE_WINDOW = 3  # a cubic needs four offsets, which windows of two tokens a side do not have


def geometric_offsets(source: int, target: int) -> Float[np.ndarray, "source"]:
    """Where BEiT sees the `source` offsets of an axis on a scale on which the `target` offsets are whole numbers.

    They are 0, ±1, ±(1 + q), ±(1 + q + q^2), ...: fine in the middle, coarse outside. The ratio q is found by
    bisection so that the outermost offsets meet; the last one tried counts, as in the original.
    """
    steps, reach = source // 2, target // 2
    low, high = RATIOS
    while high - low > RATIO_TOLERANCE:
        ratio = (low + high) / 2
        too_far = (1 - ratio**steps) / (1 - ratio) > reach
        low, high = (low, ratio) if too_far else (ratio, high)
    positive = np.cumsum(ratio ** np.arange(steps))
    return np.concatenate([-positive[::-1], [0.0], positive])


def _whole_offsets(target: int) -> Float[np.ndarray, "target"]:
    return np.arange(target, dtype=np.float64) - target // 2


def _spline_matrix(source: int, target: int) -> Float[np.ndarray, "target source"]:
    """Not-a-knot cubic spline through the source; beyond its ends it stays as it is there."""
    if source < 2 * SPLINE_WINDOW - 1:
        raise ValueError(
            f"a window of {(source + 1) // 2} tokens a side is too small for cubic splines; resize its bias table by "
            "another method than 'geometric'"
        )
    from scipy.interpolate import make_interp_spline  # slow to import

    offsets = geometric_offsets(source, target)
    inside = np.clip(_whole_offsets(target), offsets[0], offsets[-1])
    return make_interp_spline(offsets, np.eye(source), k=3)(inside)


def _linear_matrix(source: int, target: int) -> Float[np.ndarray, "target source"]:
    offsets, wanted = geometric_offsets(source, target), _whole_offsets(target)
    return np.stack([np.interp(wanted, offsets, one) for one in np.eye(source)], axis=1)


RESIZINGS: dict[str, Callable[[int, int], np.ndarray]] = {
    "geometric": _spline_matrix,
    "bicubic": bicubic_matrix,
    "timm": _linear_matrix,
}
"""Ways of resizing, as the matrix of an axis from so many offsets to so many.

"geometric" is BEiT's and SimMIM's, cubic splines on a geometric progression; "bicubic" is Swin's own, torch's
interpolation of the table as if it were an image; "timm" is linear on the same progression as the first.
"""

SQUARE_ONLY = ("geometric",)


def resize_bias_table(
    table: Float[np.ndarray, "r k"], source: Pair, target: Pair, method: str = "geometric", extra_rows: int = 0
) -> Float[np.ndarray, "s k"]:
    """A table of relative position biases for windows of `target` tokens instead of `source`.

    A table has a row for every offset, row-major, `(2 * rows - 1) * (2 * columns - 1)` of them. The `extra_rows`
    behind them (a class token's) stay. `method` is a name of `RESIZINGS` (Bao et al. 2022, Liu et al. 2021).
    Computed in float64, returned in the table's type; the same window leaves the table as it is. Raises ValueError
    if the rows are not those of the source, if "geometric" meets a window that is not square or has fewer than three
    tokens a side.
    """
    offsets, wanted = (tuple(2 * side - 1 for side in window) for window in (source, target))
    rows = offsets[0] * offsets[1]
    if table.shape[0] != rows + extra_rows:
        raise ValueError(
            f"a bias table has {table.shape[0]} rows, but windows of {source[0]}x{source[1]} tokens need "
            f"{rows + extra_rows}; check the window"
        )
    if source == target:
        return table
    if method in SQUARE_ONLY and (source[0] != source[1] or target[0] != target[1]):
        others = " or ".join(repr(name) for name in RESIZINGS if name not in SQUARE_ONLY)
        raise ValueError(
            f"'{method}' resizes the bias tables of square windows only, not {source[0]}x{source[1]} to "
            f"{target[0]}x{target[1]}; choose {others}"
        )
    grid = table[:rows].astype(np.float64).reshape(*offsets, -1)
    vertical, horizontal = (RESIZINGS[method](*sizes) for sizes in zip(offsets, wanted))
    resized = np.einsum("ys,xt,stk->yxk", vertical, horizontal, grid, optimize=True)
    return np.concatenate([resized.reshape(-1, table.shape[1]).astype(table.dtype), table[rows:]])
