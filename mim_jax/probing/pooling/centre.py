"""The middle of a patch grid."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Int

from mim_jax.errors import InputError

Pair = tuple[int, int]

Size = Literal[1, 2, 3, 4]
SIZES: tuple[Size, ...] = get_args(Size)
"""Rows and columns of the central squares that poolings know."""


def central_patches(grid: Pair, size: int) -> Int[np.ndarray, "m"]:
    """Row-major indices of the central `size` x `size` patches of a grid of (rows, columns).

    As in the original of "Beyond [cls]" (Przewiezlikowski et al. 2024): of a side of g patches those from
    g // 2 - ceil(size / 2) on. So in a grid with even sides the square of an odd size lies up and left of the middle.

    Raises:
        InputError: if the grid is smaller than that.
    """
    if size > min(grid):
        raise InputError(
            f"a centre of {size}x{size} patches is larger than the grid of {grid[0]}x{grid[1]}; take a smaller one"
        )
    rows, columns = (_start(side, size) + np.arange(size) for side in grid)
    return (rows[:, None] * grid[1] + columns).ravel()


def _start(side: int, size: int) -> int:
    # The original leaves an odd grid by one patch when the square is as large as the grid.
    return max(side // 2 - (size + 1) // 2, 0)
