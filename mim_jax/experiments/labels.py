"""Labels of the images of a run, looked at before it begins: what can be probed of them."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int

from mim_jax.data.sources import Source
from mim_jax.data.subset import Subset
from mim_jax.errors import InputError

Number = TypeVar("Number", bound=float | int)


def labels_of(source: Source) -> Int[np.ndarray, "_"] | None:
    """The labels of all images where a source knows them without reading the images, else None."""
    if isinstance(source, Subset):
        labels = labels_of(source.source)
        return None if labels is None else labels[source.indices]
    return getattr(source, "labels", None)


def check_labels(source: Source, part: str) -> None:
    """Raises InputError if a source has no labels."""
    if not source.class_names:
        raise InputError(
            f"the {part} images have no labels, which probing needs; put them into one folder a class, or set "
            "config.evaluation.probe=False and config.evaluation.knn_every=0"
        )


def check_classes(train: Source, test: Source) -> None:
    """Raises InputError if the training images are of one class only, or lack a class of the test images."""
    names, labels, wanted = train.class_names, labels_of(train), labels_of(test)
    if labels is None or wanted is None:
        return
    have = np.unique(labels)
    if len(have) < 2:
        raise InputError(
            f"all {len(labels)} training images are of class '{names[have[0]]}'; a probe needs two at least"
        )
    missing = np.setdiff1d(wanted, have)
    if len(missing):
        raise InputError(
            f"there are test images of class '{test.class_names[missing[0]]}', but none among the {len(labels)} "
            "training images that are probed; give some (or raise train_images, if it is set), or leave the class out"
        )


def makeable_shots(
    shots: Sequence[Number], labels: Int[np.ndarray, "_"], names: Sequence[str] = ()
) -> tuple[tuple[Number, ...], str]:
    """Those numbers of labels a class that every class has, and a line about the others ("" if there are none)."""
    classes, counts = np.unique(labels, return_counts=True)
    smallest = int(counts.min())
    kept = tuple(count for count in shots if count <= smallest)
    if len(kept) == len(shots):
        return kept, ""
    lost = ", ".join(f"{count:g}" for count in shots if count > smallest)
    smallest_class = names[classes[counts.argmin()]] if names else classes[counts.argmin()]
    images = f"{smallest} training image{'s' * (smallest > 1)}"
    return kept, f"class '{smallest_class}' has {images}, so there are no probes with {lost} labels a class"
