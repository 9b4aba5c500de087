"""Two-dimensional maps of features."""

import sys
import types

import ml_dtypes
import numpy as np
import pytest

from mim_jax.analysis.embedding_map import embedding_map
from mim_jax.errors import InputError

FEATURES = np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32)
CLUSTERS = FEATURES + 50 * (np.arange(12)[:, None] % 2)


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_map_keeps_clusters_apart_and_repeats_for_a_seed(method):
    ours, again = (embedding_map(CLUSTERS, method, seed=3) for _ in range(2))
    np.testing.assert_array_equal(ours.points, again.points)
    np.testing.assert_array_equal(ours.indices, np.arange(12))
    assert ours.points.shape == (12, 2) and np.isfinite(ours.points).all()
    distance = np.linalg.norm(ours.points[:, None] - ours.points, axis=-1) + 1e9 * np.eye(12)
    assert all(distance.argmin(axis=1) % 2 == np.arange(12) % 2)


def test_principal_components_keep_most_of_the_spread():
    points = embedding_map(CLUSTERS, "pca").points
    spectrum = np.linalg.svd(CLUSTERS - CLUSTERS.mean(0), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(points, axis=0), spectrum[:2], rtol=1e-4)


@pytest.mark.parametrize("rows", [3, 4])
def test_few_rows_have_a_map(rows):
    assert np.isfinite(embedding_map(FEATURES[:rows]).points).all()


def test_of_many_rows_a_random_part_is_mapped():
    ours, again = (embedding_map(FEATURES, "pca", limit=5, seed=1) for _ in range(2))
    np.testing.assert_array_equal(ours.indices, again.indices)
    assert ours.points.shape == (5, 2) and (np.diff(ours.indices) > 0).all()
    np.testing.assert_allclose(ours.points, embedding_map(FEATURES[ours.indices], "pca").points)
    assert list(embedding_map(FEATURES, "pca", limit=5, seed=2).indices) != list(ours.indices)


def test_bfloat16_features_are_mapped():
    assert np.isfinite(embedding_map(FEATURES.astype(ml_dtypes.bfloat16), "pca").points).all()


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (FEATURES, {"method": "tnse"}, "unknown method 'tnse'.*did you mean 'tsne'"),
        (FEATURES[:2], {}, "at least 3 images, and there are 2"),
        (FEATURES[:, :1], {}, "single column"),
        (FEATURES, {"limit": 2}, "limit is 2"),
        (np.ones((4, 3), np.float32), {}, "all rows of the features are the same"),
        (np.where(np.arange(12)[:, None] == 7, np.nan, FEATURES), {}, "row 7 of the features.*1 of 12"),
    ],
)
def test_features_and_options_without_a_map_are_refused(features, options, message):
    with pytest.raises(InputError, match=message):
        embedding_map(features, **options)


def test_umap_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match="pip install umap-learn"):
        embedding_map(FEATURES, "umap")


def test_umap_gets_the_seed_and_no_more_neighbours_than_rows(monkeypatch):
    class UMAP:
        def __init__(self, **options):
            assert options == dict(n_neighbors=11, init="random", random_state=4, n_jobs=1)

        def fit_transform(self, features):
            return features[:, :2]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    assert embedding_map(FEATURES, "umap", seed=4).points.shape == (12, 2)
