"""Maps of features in two dimensions, for pictures."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from mim_jax.errors import InputError, nearest

PERPLEXITY = 30.0
"""Of t-SNE, where there are enough rows: about how many neighbours a row should keep close."""
NEIGHBOURS = 15
"""Of UMAP, where there are enough rows."""
FEWEST_ROWS = 3


class EmbeddingMap(NamedTuple):
    """A map of some rows of features.

    Attributes:
        points: places on the map, without a unit.
        indices: which rows of the features they are, rising.
    """

    points: Float[np.ndarray, "m 2"]
    indices: Int[np.ndarray, "m"]


def embedding_map(
    features: Float[Array | np.ndarray, "n d"], method: str = "tsne", *, seed: int = 0, limit: int = 2000
) -> EmbeddingMap:
    """Places features in the plane, by their Euclidean distances as they are (nothing is standardised).

    The same seed gives the same map. Of more than `limit` rows a random part is mapped, drawn by the seed.

    Args:
        features: one row for every image or token.
        method: "tsne" (van der Maaten & Hinton 2008), "pca", or "umap" (McInnes et al. 2018; needs umap-learn).
        seed: of the part that is mapped and of the method.
        limit: most rows to map.

    Raises:
        InputError: if the method is unknown or not installed, there are fewer than 3 rows or 2 columns or `limit` is
            below 3, a value is not finite, or all rows are the same.
    """
    if method not in METHODS:
        raise InputError(f"unknown method '{method}' for a map of features; {nearest(method, METHODS)}")
    features = np.asarray(features)
    _check_size(features.shape, limit)
    indices = _part(len(features), limit, seed)
    chosen = features[indices].astype(np.float64)
    _check_values(chosen, indices)
    return EmbeddingMap(np.asarray(METHODS[method](chosen, seed), np.float64), indices)


def _check_size(shape: tuple[int, ...], limit: int) -> None:
    if shape[0] < FEWEST_ROWS:
        raise InputError(f"a map needs features of at least {FEWEST_ROWS} images, and there are {shape[0]}; give more")
    if shape[1] < 2:
        raise InputError("the features have a single column, which has no map in two dimensions; plot it as it is")
    if limit < FEWEST_ROWS:
        raise InputError(f"limit is {limit}; a map needs at least {FEWEST_ROWS} rows")


def _part(rows: int, limit: int, seed: int) -> Int[np.ndarray, "m"]:
    if rows <= limit:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))


def _check_values(features: Float[np.ndarray, "m d"], indices: Int[np.ndarray, "m"]) -> None:
    bad = indices[~np.isfinite(features).all(axis=1)]
    if bad.size:
        raise InputError(
            f"row {bad[0]} of the features has values that are not finite ({bad.size} of {len(indices)} rows do); "
            "leave such rows out, or see why the encoder makes them"
        )
    if (features == features[0]).all():
        raise InputError(
            "all rows of the features are the same, so there is nothing to map; see what the encoder gives"
        )


def _tsne(features: Float[np.ndarray, "m d"], seed: int) -> Float[np.ndarray, "m 2"]:
    from sklearn.manifold import TSNE  # importing scikit-learn takes a second
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)  # three times as many neighbours are looked at
    # With more threads sums are rounded in an order that changes from run to run, and t-SNE amplifies that.
    with threadpool_limits(limits=1):
        return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features)


def _pca(features: Float[np.ndarray, "m d"], seed: int) -> Float[np.ndarray, "m 2"]:
    from sklearn.decomposition import PCA

    return PCA(2, svd_solver="full").fit_transform(features)  # exact: no randomness for the seed to fix


def _umap(features: Float[np.ndarray, "m d"], seed: int) -> Any:
    try:
        from umap import UMAP
    except ImportError as error:
        raise InputError(
            "method 'umap' needs the package umap-learn, which is not installed; "
            "run `pip install umap-learn`, or take 'tsne'"
        ) from error
    # It would warn that a seed leaves it one thread; a spectral start needs more rows than a small map has.
    neighbours, start = min(NEIGHBOURS, len(features) - 1), "spectral" if len(features) > NEIGHBOURS else "random"
    return UMAP(n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1).fit_transform(features)


METHODS: dict[str, Callable[[Any, int], Any]] = {"tsne": _tsne, "pca": _pca, "umap": _umap}
"""From features and a seed to places in the plane, by name."""
