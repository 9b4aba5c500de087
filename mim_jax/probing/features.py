"""The features of one encoder that a probe reads, checked."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from mim_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class ProbeData:
    """Training features `[n d]` and test features `[m d]` of one encoder, with class numbers from 0.

    Sizes are checked here with a sentence, so that the annotations leave them open.

    Raises:
        InputError: if a part is empty, features and labels do not match, a feature is not finite, a label is
            missing (negative), there is only one class, or the test set has a class that the training set lacks.
    """

    encoder: str
    train_features: Float[np.ndarray, "_ _"]
    train_labels: Int[np.ndarray, "_"]
    test_features: Float[np.ndarray, "_ _"]
    test_labels: Int[np.ndarray, "_"]

    def __post_init__(self) -> None:
        for wrong in _mistakes(self):
            raise InputError(f"features of '{self.encoder}': {wrong}")

    def take(self, indices: Int[np.ndarray, "s"]) -> "ProbeData":
        """The same test set with some of the training images."""
        return dataclasses.replace(
            self, train_features=self.train_features[indices], train_labels=self.train_labels[indices]
        )


def _mistakes(data: ProbeData) -> Iterator[str]:
    parts = [
        ("training", data.train_features, data.train_labels),
        ("test", data.test_features, data.test_labels),
    ]
    for part, features, labels in parts:
        yield from _mistakes_of_part(part, features, labels)
    if data.train_features.shape[1] != data.test_features.shape[1]:
        yield (
            f"training features are {data.train_features.shape[1]} wide and test features "
            f"{data.test_features.shape[1]}; extract both with the same encoder"
        )
    if len(np.unique(data.train_labels)) < 2:
        yield f"all training images are of class {data.train_labels[0]}; a probe needs at least two classes"
    unknown = np.setdiff1d(data.test_labels, data.train_labels)
    if len(unknown):
        yield f"the test set has class {unknown[0]}, of which there is no training image; use the same classes in both"


def _mistakes_of_part(part: str, features: np.ndarray, labels: np.ndarray) -> Iterator[str]:
    if len(features) == 0:
        yield f"there are no {part} images; give some"
    if len(features) != len(labels):
        yield f"there are {len(features)} {part} features and {len(labels)} labels; give one label an image"
    if not np.isfinite(features).all():
        bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
        yield f"{len(bad)} {part} images have features that are not finite (first: image {bad[0]}); check the weights"
    if (labels < 0).any():
        missing = np.flatnonzero(labels < 0)
        yield f"{len(missing)} {part} images have no label (first: image {missing[0]}); give labels or leave them out"
