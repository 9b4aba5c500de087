"""All probes of one encoder."""

import dataclasses

import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.probing.draws import draw_per_class
from mim_jax.probing.evaluate import probe_features
from mim_jax.probing.knn import knn_accuracy
from mim_jax.probing.logistic import logistic_probe
from mim_jax.probing.selection import wilson_interval
from mim_jax.probing.table import Read
from tests.probing.clusters import clusters

DATA = clusters(spread=1.0)
READ = Read("encoder", 4, "mean", True)


@pytest.fixture(scope="module")
def results():
    return probe_features(READ, *DATA, seed=0, shots=(1, 5), draws=3)


def test_every_protocol_is_run_with_few_labels_and_with_all(results):
    rows = [(result.protocol, result.labels_per_class, result.draws) for result in results]
    assert rows == [(protocol, *rest) for protocol in ("k-NN", "logistic") for rest in [(1, 3), (5, 3), (None, 1)]]


def test_few_labels_are_the_mean_and_deviation_over_the_draws(results):
    train, train_labels, test, test_labels = DATA
    parts = [draw_per_class(train_labels, 5, seed=0, draw=draw) for draw in range(3)]
    few = [(train[part], train_labels[part], test, test_labels) for part in parts]
    expected = {
        "k-NN": [knn_accuracy(*data, neighbours=5) for data in few],
        "logistic": [logistic_probe(*data, inverse_regularisation=1.0).accuracy for data in few],
    }
    for result in results:
        if result.labels_per_class == 5:
            accuracies = expected[result.protocol]
            assert result.accuracy == pytest.approx(np.mean(accuracies))
            assert result.deviation == pytest.approx(np.std(accuracies, ddof=1))


def test_all_labels_are_one_measurement_without_deviation(results):
    whole = {result.protocol: result for result in results if result.labels_per_class is None}
    assert whole["k-NN"].accuracy == knn_accuracy(*DATA)
    assert whole["logistic"].accuracy == logistic_probe(*DATA).accuracy
    assert {result.deviation for result in whole.values()} == {None}


def test_one_label_a_class_means_the_nearest_neighbour(results):
    assert results[0].details["neighbours"] == 1
    assert results[2].details["neighbours"] == 20


def test_probing_again_gives_the_same(results):
    again = probe_features(READ, *DATA, seed=0, shots=(1, 5), draws=3)
    assert [dataclasses.replace(row, seconds=1.0) for row in results] == [
        dataclasses.replace(row, seconds=1.0) for row in again
    ]


def test_rows_tell_what_was_read_and_how_long_it_took(results):
    assert {(row.encoder, row.layer, row.pooling, row.final_norm) for row in results} == {READ}
    assert {row.images for row in results} == {len(DATA[2])}
    assert all(row.seconds > 0 for row in results)


def test_interval_of_all_labels_is_over_images(results):
    for row in results:
        if row.labels_per_class is None:
            assert (row.low, row.high) == wilson_interval(round(row.accuracy * row.images), row.images)


def test_interval_of_eleven_draws_is_students():
    row = probe_features(READ, *clusters(spread=3.0), seed=0, shots=(1,), draws=11)[0]
    half = 2.228139 * row.deviation / np.sqrt(11)
    assert (row.low, row.high) == pytest.approx((row.accuracy - half, row.accuracy + half), rel=1e-6)


def test_single_draw_has_no_deviation():
    (first, _, _, _) = probe_features(READ, *DATA, seed=0, shots=(1,), draws=1)
    assert first.deviation is None and np.isnan([first.low, first.high]).all()


def with_(**changes) -> tuple[np.ndarray, ...]:
    """The data after changing entries of its parts: a part's name gives (index, value)."""
    names = ["train_features", "train_labels", "test_features", "test_labels"]
    parts = dict(zip(names, (part.copy() for part in DATA)))
    for name, (index, value) in changes.items():
        parts[name][index] = value
    return tuple(parts.values())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            with_(train_features=((3, 2), np.nan)),
            r"1 training images have features that are not finite \(first: image 3\)",
        ),
        (with_(test_features=((slice(4, 6), 0), np.inf)), r"2 test images have features that are not finite"),
        (with_(train_labels=(7, -1)), r"1 training images have no label \(first: image 7\)"),
        (with_(train_labels=(..., 2), test_labels=(..., 2)), "all training images are of class 2"),
        (with_(test_labels=(0, 9)), "test set has class 9"),
        ((DATA[0][:-1], *DATA[1:]), "159 training features and 160 labels"),
        ((DATA[0], DATA[1], DATA[2][:, :-1], DATA[3]), "training features are 8 wide and test features 7"),
        ((DATA[0], DATA[1], DATA[2][:0], DATA[3][:0]), "no test images"),
        (with_(train_labels=(slice(0, 150), 0)), "fewer than 5 shots"),
    ],
)
def test_data_that_no_probe_can_use_is_refused_in_one_sentence(data: tuple, message: str):
    with pytest.raises(InputError, match=message) as caught:
        probe_features(READ._replace(encoder="my encoder"), *data, seed=0, shots=(5,))
    assert "'my encoder'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_draws_are_refused():
    with pytest.raises(InputError, match="at least 1"):
        probe_features(READ, *DATA, seed=0, draws=0)


def test_results_cannot_be_changed(results):
    with pytest.raises(dataclasses.FrozenInstanceError):
        results[0].accuracy = 1.0
