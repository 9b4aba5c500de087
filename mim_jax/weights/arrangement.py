"""How the axes of an array lie there and here: einops patterns, used in both directions."""

import math
import re
from collections.abc import Sequence

import einops
import numpy as np

Shape = tuple[int, ...]


def arrange(parts: Sequence[np.ndarray], pattern: str, shape: Shape) -> np.ndarray:
    """Our array from its parts there; `shape` is ours and tells how axes split."""
    array = parts[0] if len(parts) == 1 else np.stack(parts)
    return einops.rearrange(array, pattern, **_sizes(pattern, shape))


BLOCK = 16
SMALL = 1 << 16


def contiguous(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The same numbers in C order and of this type.

    A large array whose axes are turned round is copied a few rows of the source at a time, so that both what is read
    and what is written stays in the cache; that is up to four times as fast as all at once.
    """
    if array.size < SMALL or array.flags.c_contiguous:
        return np.ascontiguousarray(array, dtype)
    copy = np.empty(array.shape, dtype)
    axis = int(np.argmax(np.abs(array.strides)))
    source, target = np.moveaxis(array, axis, 0), np.moveaxis(copy, axis, 0)
    for start in range(0, len(source), BLOCK):
        target[start : start + BLOCK] = source[start : start + BLOCK]
    return copy


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
