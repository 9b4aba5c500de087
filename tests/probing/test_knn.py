"""The nearest-neighbour probe."""

import pytest

from mim_jax.probing.knn import knn_accuracy
from tests.golden_cases import arrays
from tests.probing.clusters import clusters


@pytest.mark.parametrize(("neighbours", "temperature"), [(10, 0.07), (20, 0.07), (100, 0.2)])
def test_accuracy_equals_the_dino_evaluation(neighbours: int, temperature: float):
    golden = arrays("knn_classifier")
    names = ["train_features", "train_labels", "test_features", "test_labels"]
    accuracy = knn_accuracy(*(golden[name] for name in names), neighbours=neighbours, temperature=temperature)
    assert 100 * accuracy == golden[f"top1_k{neighbours}_T{temperature}"]


def test_separated_clusters_are_all_recognised_and_swapped_labels_none():
    train, train_labels, test, test_labels = clusters(spread=0.01)
    assert knn_accuracy(train, train_labels, test, test_labels) == 1.0
    assert knn_accuracy(train, train_labels, test, (test_labels + 1) % 4) == 0.0


def test_more_neighbours_than_images_are_refused():
    with pytest.raises(ValueError, match="160 training rows"):
        knn_accuracy(*clusters(), neighbours=161)
