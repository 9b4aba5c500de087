"""What a head that attends to everything alike would show."""

import numpy as np

Pair = tuple[int, int]


def uniform_attention_distance(grid: Pair, patch_size: int | Pair) -> float:
    """Attention distance in pixels of a head that attends to every patch alike, itself included."""
    height, width = pair(patch_size)
    rows, columns = (np.arange(1 - side, side) for side in grid)
    # Of a side of g patches, g - |offset| pairs lie at an offset.
    pairs = np.outer(grid[0] - np.abs(rows), grid[1] - np.abs(columns))
    return float((pairs * np.hypot(rows[:, None] * height, columns * width)).sum() / pairs.sum())


def uniform_attention_entropy(grid: Pair, prefix: int = 0) -> float:
    """Entropy in nats of a head that attends to every patch (and `prefix` tokens more) alike."""
    return float(np.log(prefix + grid[0] * grid[1]))


def pair(size: int | Pair) -> Pair:
    """One number for both directions, or two."""
    return (size, size) if isinstance(size, int) else size
