"""How fast the eigenvalues of the covariance fall off."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

FEWEST_POINTS = 3


class PowerLaw(NamedTuple):
    """Eigenvalue i falls off as i^-alpha, fitted to eigenvalues `first` to `last` (counted from 1, both included)."""

    alpha: float
    first: int
    last: int


def alpha_req(eigenvalues: Float[Array | np.ndarray, "r"], first: int = 11, last: int = 500) -> PowerLaw:
    """alpha-ReQ (Agrawal et al. 2022): minus the slope of ln lambda_i over ln i, by least squares, in float64.

    Args:
        eigenvalues: of the covariance, largest first, as `covariance_spectrum` gives them.
        first: the first one that is fitted, counted from 1. Stringer et al. 2019 leave out ten.
        last: the last one; at most the rank that float32 resolves.

    Raises:
        ValueError: if fewer than 3 eigenvalues remain.
    """
    eigenvalues = np.asarray(eigenvalues, np.float64)
    last = min(last, _rank(eigenvalues))
    if first < 1 or last - first + 1 < FEWEST_POINTS:
        raise ValueError(
            f"alpha_req would fit eigenvalues {first} to {last} (rank {_rank(eigenvalues)}); "
            f"give it a range from 1 on with {FEWEST_POINTS} at least, or more images"
        )
    index = np.arange(first, last + 1)
    slope = np.polyfit(np.log(index), np.log(eigenvalues[first - 1 : last]), 1)[0]
    return PowerLaw(-float(slope), first, last)


def _rank(eigenvalues: Float[np.ndarray, "r"]) -> int:
    """Number of eigenvalues above the square of what float32 resolves of singular values."""
    resolution = eigenvalues.size * np.finfo(np.float32).eps
    return int(np.sum(eigenvalues > resolution**2 * eigenvalues.max(initial=0.0)))
