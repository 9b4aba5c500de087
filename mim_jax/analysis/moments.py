"""Means and spreads over images, accumulated batch by batch, and merged from parts."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations over images, of trees whose leaves had images on their second axis."""

    count: Any
    mean: Any
    squares: Any


def moments_of_batch(values: object, valid: Bool[Array, "b"]) -> Moments:
    """Moments of leaves `[l, b, ...]` over the valid images; what the others hold, NaN included, does not matter."""
    count = valid.sum().astype(jnp.float32)

    def total(leaf: Float[Array, "l b ..."]) -> Float[Array, "l ..."]:
        chosen = valid.reshape(-1, *[1] * (leaf.ndim - 2))
        return jnp.where(chosen, leaf.astype(jnp.float32), 0).sum(axis=1)

    mean = jax.tree.map(lambda leaf: total(leaf) / jnp.maximum(count, 1), values)
    squares = jax.tree.map(lambda leaf, mean: total((leaf - mean[:, None]) ** 2), values, mean)
    return Moments(count, mean, squares)


def merge_moments(one: Moments, other: Moments) -> Moments:
    """Moments of both together (Chan et al. 1983): unlike plain sums of squares, exact for small spreads."""
    count = one.count + other.count
    on_host = isinstance(count, np.ndarray | np.generic)  # where jax.numpy would round float64
    share = other.count / (np if on_host else jnp).maximum(count, 1)
    mean = jax.tree.map(lambda a, b: a + (b - a) * share, one.mean, other.mean)
    squares = jax.tree.map(
        lambda a, b, s, t: s + t + (b - a) ** 2 * one.count * share, one.mean, other.mean, one.squares, other.squares
    )
    return Moments(count, mean, squares)


merge_on_device = jax.jit(merge_moments)


def merge_parts(parts: Sequence[Moments]) -> Moments:
    """Moments of several parts of a data set, in float64 on the host."""
    return functools.reduce(merge_moments, [jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), p) for p in parts])
