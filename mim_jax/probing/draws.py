"""Seeded parts of a labelled set: few-shot draws and the held-out part."""

import numpy as np
from jaxtyping import Bool, Int


def draw_per_class(
    labels: Int[np.ndarray, "n"], count: int | Int[np.ndarray, "c"], *, seed: int, draw: int = 0
) -> Int[np.ndarray, "m"]:
    """Indices of `count` images of every class, ascending; the counts may differ by class.

    They depend on labels, `seed` and `draw` only, so that every encoder sees the same images, and a draw of 5
    contains the draw of 1 with the same number.
    """
    counts = np.broadcast_to(count, labels.max() + 1)
    return np.flatnonzero(_rank_in_class(labels, np.random.default_rng([seed, draw])) < counts[labels])


def hold_out(labels: Int[np.ndarray, "n"], fraction: float, *, seed: int) -> Bool[np.ndarray, "n"]:
    """Marks about `fraction` of every class, at least one image each; none of a class of one image, which stays."""
    every = np.bincount(labels)
    counts = np.where(every > 1, np.maximum(1, np.rint(fraction * every)), 0)
    return _rank_in_class(labels, np.random.default_rng(seed)) < counts[labels]


def _rank_in_class(labels: Int[np.ndarray, "n"], generator: np.random.Generator) -> Int[np.ndarray, "n"]:
    """A random order of the images of every class: the rank of each among its class, from 0."""
    order = generator.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    first = np.cumsum(counts) - counts
    rank = np.empty_like(order)
    rank[by_class] = np.arange(len(labels)) - first[labels[by_class]]
    return rank
