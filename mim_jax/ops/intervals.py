"""How certain a mean is."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

CONFIDENCE = 0.95


def student_factor(count: int) -> float:
    """Standard errors that lie between the mean of `count` numbers and either end of its 95 % interval.

    From Student's t with `count - 1` degrees of freedom (Student 1908); NaN for fewer than two numbers, whose scatter
    nobody knows.
    """
    return float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) if count > 1 else math.nan


def uncertainty(squares: Float[np.ndarray, "..."], count: int) -> tuple[Any, Any]:
    """Standard error of the mean of `count` numbers, and half its 95 % interval; NaN for fewer than two.

    `squares` are sums of squared deviations from the mean.
    """
    error = np.sqrt(np.asarray(squares, np.float64) / max(count - 1, 1) / max(count, 1))
    error = error if count > 1 else np.full_like(error, np.nan)
    return error, error * student_factor(count)


def interval_of_mean(values: Float[np.ndarray, "n"]) -> tuple[float, float]:
    """Both ends of the 95 % interval of the mean of some numbers; NaN for fewer than two."""
    mean = np.mean(values)
    half = float(uncertainty(np.asarray(np.square(values - mean).sum()), len(values))[1])
    return float(mean) - half, float(mean) + half
