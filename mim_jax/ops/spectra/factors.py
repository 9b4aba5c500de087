"""Singular values of data sets too large to keep: factors of parts, which are merged.

Of a part with rows X its number n, its mean m and a triangular R with R^T R = (X - m)^T (X - m) are kept. The scatter
of two parts together is the sum of theirs and (n_1 n_2 / n) (m_1 - m_2) (m_1 - m_2)^T: so their common R is that of
both factors and one more row below each other. No scatter is subtracted or even formed, so squares cost no digits.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class TriangularFactor(NamedTuple):
    """Attributes:
    factor: upper triangular, with the singular values of the rows minus their mean.
    mean: of the rows.
    rows: their number.
    """

    factor: Float[Array, "d d"]
    mean: Float[Array, "d"]
    rows: Float[Array, ""]


def triangular_factor(x: Float[Array, "n d"], valid: Bool[Array, "n"] | None = None) -> TriangularFactor:
    """The factor of n rows. Those where `valid` is False only fill a batch up: left out, whatever they hold."""
    kept = jnp.ones(x.shape[0], bool) if valid is None else valid
    x = jnp.where(kept[:, None], x.astype(jnp.float32), 0.0)
    rows = kept.sum().astype(jnp.float32)
    mean = x.sum(axis=0) / jnp.maximum(rows, 1.0)
    return TriangularFactor(_triangle(jnp.where(kept[:, None], x - mean, 0.0)), mean, rows)


def merge_factors(one: TriangularFactor, other: TriangularFactor) -> TriangularFactor:
    """The factor of the rows of both, in any order."""
    rows = one.rows + other.rows
    share = other.rows / jnp.maximum(rows, 1.0)
    between = other.mean - one.mean
    stacked = jnp.concatenate([one.factor, other.factor, jnp.sqrt(one.rows * share) * between[None]])
    return TriangularFactor(_triangle(stacked), one.mean + share * between, rows)


def factor_singular_values(factor: TriangularFactor, centred: bool) -> Float[Array, "d"]:
    """The d singular values of all rows, largest first, minus their mean where `centred`; zeros beyond the rank."""
    mean_row = jnp.sqrt(factor.rows) * factor.mean[None]
    rows = factor.factor if centred else jnp.concatenate([factor.factor, mean_row])
    return jnp.linalg.svd(rows, compute_uv=False)


def _triangle(rows: Float[Array, "n d"]) -> Float[Array, "d d"]:
    missing = max(rows.shape[1] - rows.shape[0], 0)
    return jnp.linalg.qr(jnp.pad(rows, ((0, missing), (0, 0))), mode="r")
