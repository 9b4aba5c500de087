"""Weighted nearest neighbours."""

import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.ops.neighbours import neighbour_votes, unit_rows
from tests.golden_cases import arrays, case

CASE = arrays("knn_classifier")
SETTINGS = [name.removeprefix("votes_") for name in CASE if name.startswith("votes_")]


def golden_votes(setting: str, chunk: int = 64) -> np.ndarray:
    neighbours, temperature = setting.removeprefix("k").split("_T")
    votes = neighbour_votes(
        jnp.asarray(CASE["train_features"]),
        jnp.asarray(CASE["train_labels"]),
        jnp.asarray(CASE["test_features"]),
        num_classes=case("knn_classifier")["num_classes"],
        neighbours=int(neighbours),
        temperature=float(temperature),
        chunk=chunk,
    )
    return np.asarray(votes)


@pytest.mark.parametrize("setting", SETTINGS)
def test_votes_and_accuracies_equal_the_dino_evaluation(setting: str):
    votes, labels = golden_votes(setting), CASE["test_labels"]
    np.testing.assert_allclose(votes, CASE[f"votes_{setting}"], rtol=1e-5)
    order = np.argsort(-votes, axis=1, kind="stable")
    np.testing.assert_array_equal(order[:, 0], CASE[f"prediction_{setting}"])
    hits = order[:, :5] == labels[:, None]
    assert 100 * hits[:, :1].any(1).mean() == CASE[f"top1_{setting}"]
    assert 100 * hits.any(1).mean() == CASE[f"top5_{setting}"]


@pytest.mark.parametrize("chunk", [7, 200, 1000])
def test_chunk_size_does_not_change_the_votes(chunk: int):
    np.testing.assert_allclose(golden_votes("k20_T0.07", chunk), golden_votes("k20_T0.07"), rtol=1e-5)


def test_votes_ignore_the_length_of_features():
    train, labels = jnp.asarray([[2.0, 0.0], [0.0, 3.0]]), jnp.asarray([1, 0])
    votes = neighbour_votes(train, labels, jnp.asarray([[0.1, 0.0]]), num_classes=3, neighbours=2, temperature=0.5)
    np.testing.assert_allclose(votes, [[1.0, np.exp(2.0), 0.0]], rtol=1e-6)


def test_row_of_zeros_has_no_direction_and_stays_finite():
    np.testing.assert_array_equal(unit_rows(jnp.zeros((2, 3))), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neighbours": 401}, "1 to the 400"),
        ({"neighbours": 0}, "1 to the 400"),
        ({"temperature": 0.01}, "overflow"),
        ({"temperature": -1.0}, "overflow"),
    ],
)
def test_impossible_settings_are_refused(changes: dict, message: str):
    train, labels = jnp.asarray(CASE["train_features"]), jnp.asarray(CASE["train_labels"])
    with pytest.raises(ValueError, match=message):
        neighbour_votes(train, labels, train, num_classes=12, **changes)
