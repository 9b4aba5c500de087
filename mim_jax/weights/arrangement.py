"""How the axes of an array lie there and here: einops patterns, used in both directions."""

import math
import re
from collections.abc import Iterator, Sequence

import einops
import numpy as np

Shape = tuple[int, ...]


def arrange(parts: Sequence[np.ndarray], pattern: str, shape: Shape) -> np.ndarray:
    """Our array from its parts there; `shape` is ours and tells how axes split."""
    array = parts[0] if len(parts) == 1 else np.stack(parts)
    return einops.rearrange(array, pattern, **_sizes(pattern, shape))


BLOCK = 16  # steps along the slowest axis of what is read that are turned round at once, so that they stay in the cache
PIECE = 1 << 22  # bytes that are turned round before they are handed on


def pieces(array: np.ndarray, dtype: np.dtype) -> Iterator[np.ndarray]:
    """The same numbers in C order and of this type, as one-dimensional arrays one behind the other.

    What lies so already is handed on as it is. Else a piece is made, a few steps along the slowest axis of the source
    at a time, so that both what is read and what is written stays in the cache; that is several times as fast as all at
    once. A piece holds only until the next one is asked for.
    """
    array = _merged(array)
    if array.ndim == 1 and array.dtype == dtype and array.flags.c_contiguous:
        yield array
        return
    rows = max(PIECE // (math.prod(array.shape[1:]) * dtype.itemsize), 1)
    room = np.empty((min(rows, len(array)), *array.shape[1:]), dtype)
    for first in range(0, len(array), rows):
        source = array[first : first + rows]
        piece = room[: len(source)]
        _turn(source, piece)
        yield piece.reshape(-1)


def _turn(source: np.ndarray, target: np.ndarray) -> None:
    """Copies; see `pieces`."""
    slowest = int(np.argmax(np.abs(source.strides)))
    if not slowest:  # the axes are in order
        target[...] = source
        return
    source, target = np.moveaxis(source, slowest, 0), np.moveaxis(target, slowest, 0)
    for start in range(0, len(source), BLOCK):
        target[start : start + BLOCK] = source[start : start + BLOCK]


def _merged(array: np.ndarray) -> np.ndarray:
    """A view of the same numbers with as few axes as its strides allow: one where they lie in C order."""
    axes: list[tuple[int, int]] = []
    for size, stride in zip(array.shape, array.strides):
        if axes and axes[-1][1] == size * stride:
            size *= axes.pop()[0]
        axes += [(size, stride)] if size != 1 else []
    return array.reshape([size for size, _ in axes] if array.size and axes else -1)


def arrange_back(array: np.ndarray, pattern: str, parts: int = 1) -> list[np.ndarray]:
    """Inverse of `arrange`."""
    there, here = _sides(pattern)
    whole = einops.rearrange(array, f"{here} -> {there}", **_sizes(pattern, array.shape))
    return list(whole) if parts > 1 else [whole]


def shape_there(pattern: str, shape: Shape, parts: int = 1) -> Shape:
    """Shape that (each part of) an array of our `shape` has there."""
    sizes = _sizes(pattern, shape)
    return tuple(math.prod(sizes.get(n, 1) for n in axis.strip("()").split()) for axis in axes_there(pattern, parts))


def axes_there(pattern: str, parts: int = 1) -> list[str]:
    """Axes that (each part of) an array has there, such as `["(t k e)", "d"]`."""
    axes = re.findall(r"\([^)]*\)|\S+", _sides(pattern)[0])
    return axes[1:] if parts > 1 else axes


def _sides(pattern: str) -> tuple[str, str]:
    there, here = pattern.split(" -> ")
    return there, here


def _sizes(pattern: str, shape: Shape) -> dict[str, int]:
    names = _sides(pattern)[1].split()
    if len(names) != len(shape):
        raise ValueError(f"an array of shape {shape} does not fit the pattern '{pattern}'")
    return dict(zip(names, shape))
