"""Choosing among probes without the test set, and how certain an accuracy is."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def best_probe(held_out_correct: Int[np.ndarray, "g"]) -> int:
    """Index of the probe with most held-out images right, the first of equals."""
    return int(np.argmax(held_out_correct))


def wilson_interval(correct: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Interval in which a share lies with 95 % confidence (Wilson 1927), given `correct` of `total`.

    It tells how far another test set of this size would scatter; not what another training would give.
    """
    if total < 1:
        return 0.0, 1.0
    share, spread = correct / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def grid(rates: Sequence[float], decays: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Every pair of a learning rate and a weight decay, as two tuples of equal length."""
    pairs = [(rate, decay) for rate in rates for decay in decays]
    return tuple(rate for rate, _ in pairs), tuple(decay for _, decay in pairs)
