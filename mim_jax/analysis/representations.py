"""What the features of all images together show: similarity of layers and encoders, spectra, ranks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mim_jax.analysis.tables import summary_row
from mim_jax.errors import InputError
from mim_jax.ops.similarity import (
    cka_of_sums,
    cka_sums,
    merge_cka_sums,
    minibatch_cka,
    minibatch_sums,
    mutual_nearest_neighbours,
)
from mim_jax.ops.spectra import (
    alpha_req,
    covariance_spectrum,
    effective_rank,
    log_spectrum,
    participation_ratio,
    rankme,
    rankme_centered,
    singular_values,
)

Layers = Sequence[Float[np.ndarray, "n _"]]
Matrix = Float[np.ndarray, "l m"]

GRAM_LIMIT = 4096
"""Up to so many images their Gram matrices are smaller than the products of all features with all."""
CHUNK = 1024
MINIBATCH = 64
FEWEST_IMAGES = 4


def layers_cka(xs: Layers, ys: Layers, estimator: str = "unbiased") -> Matrix:
    """Linear CKA between all layers of two encoders (or of one), of features of the same images in the same order.

    "unbiased" and "biased" are of all images at once, exactly; "minibatch" adds up HSIC over batches of 64 before the
    ratio (Nguyen et al. 2021).

    Raises:
        InputError: if the images differ in number, or there are fewer than four.
    """
    count = len(xs[0])
    if len(ys[0]) != count:
        raise InputError(f"CKA compares features of the same images, not of {count} and {len(ys[0])}")
    if count < FEWEST_IMAGES:
        raise InputError(f"CKA needs {FEWEST_IMAGES} images at least, not {count}; give more")
    if estimator == "minibatch" or (estimator == "unbiased" and count <= GRAM_LIMIT):
        return _by_gram_matrices(xs, ys, MINIBATCH if estimator == "minibatch" else count)
    return _streamed(xs, ys, estimator)


def _by_gram_matrices(xs: Layers, ys: Layers, size: int) -> Matrix:
    sums = None
    for start in range(0, len(xs[0]), size):
        one, other = ([jnp.asarray(x[start : start + size]) for x in layers] for layers in (xs, ys))
        if len(one[0]) < FEWEST_IMAGES:
            break  # an estimate of fewer images does not exist
        part = _minibatch_sums(one, other)
        sums = part if sums is None else jax.tree.map(jnp.add, sums, part)
    assert sums is not None  # there are images enough
    return np.asarray(minibatch_cka(sums))


_minibatch_sums = jax.jit(minibatch_sums)
_cka_sums = jax.jit(cka_sums)


def _streamed(xs: Layers, ys: Layers, estimator: str) -> Matrix:
    offsets = [[jnp.asarray(x[:CHUNK].mean(axis=0)) for x in layers] for layers in (xs, ys)]
    sums = None
    for start in range(0, len(xs[0]), CHUNK):
        parts = ([jnp.asarray(x[start : start + CHUNK]) for x in layers] for layers in (xs, ys))
        part = _cka_sums(*parts, *offsets)
        sums = part if sums is None else merge_cka_sums(sums, part)
    assert sums is not None
    return cka_of_sums(sums, estimator)


def layers_neighbours(xs: Layers, ys: Layers, neighbours: int) -> Matrix:
    """Mutual k-NN between all layers of two encoders, of features of the same images.

    Raises InputError if there are not more images than neighbours.
    """
    if len(xs[0]) <= neighbours:
        raise InputError(f"{neighbours} neighbours need more than {len(xs[0])} images; give more, or ask for fewer")
    shares = [[mutual_nearest_neighbours(jnp.asarray(x), jnp.asarray(y), neighbours) for y in ys] for x in xs]
    return np.asarray(shares, np.float64)


def pairs_of(names: Sequence[str], across: bool) -> list[tuple[str, str]]:
    """Every encoder with itself and, if `across`, with every later one."""
    return [(a, b) for i, a in enumerate(names) for j, b in enumerate(names) if i == j or (across and i < j)]


def compare(
    features: Mapping[str, Layers], measure: Callable[[Layers, Layers], Matrix], *, across: bool = True
) -> dict[tuple[str, str], Matrix]:
    """A matrix of layers against layers for every pair of encoders."""
    return {(a, b): measure(features[a], features[b]) for a, b in pairs_of(list(features), across)}


def spectrum_rows(encoder: str, kind: str, layers: Layers) -> list[tuple[Any, ...]]:
    """Rows of the table: what is read off the singular values of the features of every layer."""
    return [
        summary_row(encoder, layer, kind, name, value, len(values))
        for layer, values in enumerate(layers)
        for name, value in rank_statistics(values).items()
    ]


def rank_statistics(features: Float[np.ndarray, "n d"]) -> dict[str, float]:
    """Ranks of one layer; the exponent is missing where there are too few eigenvalues for it."""
    x = jnp.asarray(features)
    centred = singular_values(x, centred=True)
    found = {
        "rankme": float(rankme(x)),
        "rankme_centered": float(rankme_centered(x)),
        "effective_rank": float(effective_rank(centred)),
        "participation_ratio": float(participation_ratio(centred)),
    }
    try:
        return found | {"alpha_req": alpha_req(np.asarray(covariance_spectrum(x))).alpha}
    except ValueError:
        return found


def log_spectra(layers: Layers) -> list[Float[np.ndarray, "r"]]:
    """ln sigma_i - ln sigma_1 of the centred features of every layer."""
    return [np.asarray(log_spectrum(jnp.asarray(x))) for x in layers]
