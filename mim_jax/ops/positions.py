"""Absolute position tables: fixed sine-cosine values and resizing to another grid."""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Pair = tuple[int, int]

BICUBIC_A = -0.75  # the cubic kernel of torch's interpolate
ANTIALIASED_BICUBIC_A = -0.5  # that of PIL, jax.image, and torch when it antialiases
SINCOS_TEMPERATURE = 10000.0


def sincos_position_table(grid: Pair, width: int, prefix: int = 1) -> Float[np.ndarray, "n d"]:
    """MAE's fixed two-dimensional sine-cosine table in float64, with `prefix` leading rows of zeros.

    A patch in row y and column x gets `[sin(xw) | cos(xw) | sin(yw) | cos(yw)]`: the first half of the width
    encodes the column. Raises ValueError if the width is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"sine-cosine positions need a width divisible by 4, not {width}")
    rows, columns = np.meshgrid(
        np.arange(grid[0], dtype=np.float64), np.arange(grid[1], dtype=np.float64), indexing="ij"
    )
    frequency = SINCOS_TEMPERATURE ** (-np.arange(width // 4, dtype=np.float64) / (width // 4))
    angles = [coordinate.reshape(-1, 1) * frequency for coordinate in (columns, rows)]
    table = np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)
    return np.concatenate([np.zeros((prefix, width)), table], axis=0)


def position_table(kind: str, grid: Pair, width: int, prefix: int) -> Float[np.ndarray, "n d"]:
    """Fixed table by its kind; a learned one starts as MAE's.

    "sincos_rows_first" is MoCo v3's: the same waves, the first half of the width encodes the row.
    """
    table = sincos_position_table(grid, width, prefix)
    if kind != "sincos_rows_first":
        return table
    return np.concatenate([table[:, width // 2 :], table[:, : width // 2]], axis=1)


def bicubic_matrix(source: int, target: int, offset: float = 0.0) -> Float[np.ndarray, "target source"]:
    """Matrix of torch's bicubic interpolation along one axis (half-pixel centres, no antialiasing).

    Taps outside the source repeat the edge. With an `offset` the sampling positions are those of the scale factor
    `(target + offset) / source`.
    """
    position = (np.arange(target) + 0.5) * source / (target + offset) - 0.5
    first = np.floor(position).astype(int)
    matrix = np.zeros((target, source))
    for step in (-1, 0, 1, 2):
        weight = _cubic_kernel(np.abs(position - first - step), BICUBIC_A)
        np.add.at(matrix, (np.arange(target), np.clip(first + step, 0, source - 1)), weight)
    return matrix


def antialiased_bicubic_matrix(source: int, target: int) -> Float[np.ndarray, "target source"]:
    """Matrix of torch's antialiased bicubic interpolation along one axis: the kernel widens when it shrinks.

    Taps outside the source are left out and the others' weights made to sum to one, as PIL does.
    """
    scale = source / target
    widening = max(scale, 1.0)
    centre = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centre[:, None]) / widening
    weights = _cubic_kernel(distance, ANTIALIASED_BICUBIC_A)
    return weights / weights.sum(axis=1, keepdims=True)


def _cubic_kernel(distance: Float[np.ndarray, "*t"], a: float) -> Float[np.ndarray, "*t"]:
    d = distance
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


RESAMPLINGS: dict[str, Callable[[int, int], np.ndarray]] = {
    "bicubic": bicubic_matrix,
    "bicubic_antialiased": antialiased_bicubic_matrix,
    "bicubic_offset": functools.partial(bicubic_matrix, offset=0.1),
}
"""Ways of resizing a position table: of MAE and LUT; of timm and DINOv2 with registers; of DINO and DINOv2."""


def resize_position_table(
    table: Float[np.ndarray, "n d"], source: Pair, target: Pair, prefix: int = 1, resampling: str = "bicubic"
) -> Float[np.ndarray, "m d"]:
    """Resizes the patch rows of a position table to another grid, by default as MAE's `interpolate_pos_embed`.

    The `prefix` rows (class token, registers) stay. `resampling` is a name of `RESAMPLINGS`. Computed in float64,
    returned in the table's type. Raises ValueError if the table does not have `prefix + rows * columns` rows.
    """
    if table.shape[0] != prefix + source[0] * source[1]:
        raise ValueError(f"position table has {table.shape[0]} rows, which is not {prefix} + {source[0]}x{source[1]}")
    if source == target:
        return table
    patches = table[prefix:].astype(np.float64).reshape(*source, -1)
    vertical, horizontal = (RESAMPLINGS[resampling](s, t) for s, t in zip(source, target))
    resized = np.einsum("ys,xt,std->yxd", vertical, horizontal, patches, optimize=True)
    return np.concatenate([table[:prefix], resized.reshape(-1, table.shape[1]).astype(table.dtype)])
