"""Weighted nearest neighbours in feature space."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_LARGEST_EXPONENT = 88.0
"""Above this, exp overflows float32."""


def unit_rows(features: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Rows in float32, scaled to Euclidean length 1; a row of zeros stays zero."""
    features = features.astype(jnp.float32)
    norm = jnp.linalg.norm(features, axis=-1, keepdims=True)
    return features / jnp.maximum(norm, jnp.finfo(jnp.float32).tiny)


def neighbour_votes(
    train_features: Float[Array, "n d"],
    train_labels: Int[Array, "n"],
    test_features: Float[Array, "m d"],
    *,
    num_classes: int,
    neighbours: int = 20,
    temperature: float = 0.07,
    chunk: int = 256,
) -> Float[Array, "m c"]:
    """Votes for every class by the most similar training rows (Wu et al. 2018; DINO, Caron et al. 2021).

    Each of the `neighbours` training rows with the largest cosine similarity s votes exp(s / temperature) for its
    label, which lies in `[0, num_classes)`. `chunk` test rows are compared at a time: it bounds the memory
    (`chunk * n` similarities) and does not change the result.

    Raises:
        ValueError: if `neighbours` is not within 1 and n, or the temperature would overflow float32.
    """
    _check(neighbours, train_features.shape[0], temperature)
    return _votes(train_features, train_labels, test_features, temperature, num_classes, neighbours, chunk)


def _check(neighbours: int, rows: int, temperature: float) -> None:
    if not 1 <= neighbours <= rows:
        raise ValueError(f"neighbours is {neighbours}; choose a number from 1 to the {rows} training rows")
    smallest = 1 / (_LARGEST_EXPONENT - math.log(neighbours))
    if temperature < smallest:
        raise ValueError(f"temperature is {temperature}; below {smallest:.4f} the votes overflow float32")


@functools.partial(jax.jit, static_argnames=("num_classes", "neighbours", "chunk"))
def _votes(
    train_features: Float[Array, "n d"],
    train_labels: Int[Array, "n"],
    test_features: Float[Array, "m d"],
    temperature: Float[Array, ""] | float,
    num_classes: int,
    neighbours: int,
    chunk: int,
) -> Float[Array, "m c"]:
    train = unit_rows(train_features)

    def vote(row: Float[Array, "d"]) -> Float[Array, "c"]:
        similarity = jnp.matmul(train, row, precision=jax.lax.Precision.HIGHEST)
        nearest, index = jax.lax.top_k(similarity, neighbours)
        weights = jnp.exp(nearest / temperature)
        labels = jax.nn.one_hot(train_labels[index], num_classes)
        return jnp.matmul(weights, labels, precision=jax.lax.Precision.HIGHEST)

    return jax.lax.map(vote, unit_rows(test_features), batch_size=chunk)
