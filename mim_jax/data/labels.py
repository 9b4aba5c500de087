"""Labels as people give them, numbered from 0 without gaps."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from mim_jax.data.arrays import ArraySource
from mim_jax.data.folder import ImageFiles
from mim_jax.data.record import Source
from mim_jax.data.telling import some, tell
from mim_jax.errors import InputError


def number_labels(labels: Sequence[str], place: str) -> tuple[Int32[np.ndarray, " b"], tuple[str, ...]]:
    """The number of every label's class, and the names of the classes.

    Labels are whole numbers from 0, in their order, or names, sorted; which numbers there are does not matter, but it
    is told where they do not run from 0 without a gap. Raises InputError for a mixture of both.
    """
    numeric = [label.isdecimal() for label in labels]
    if any(numeric) and not all(numeric):
        name = labels[numeric.index(False)]
        raise InputError(f"{place}: the label {name!r} is not a whole number, but others are: give numbers, or names.")
    if not any(numeric):
        names, numbers = np.unique(np.asarray(labels, object).astype(str), return_inverse=True)
        return numbers.astype(np.int32), tuple(map(str, names))
    known = sorted({int(label) for label in labels})
    if known[-1] != len(known) - 1:
        tell(
            f"{place}: the labels are {len(known)} numbers from {known[0]} to {known[-1]}; "
            f"classes are numbered from 0 to {len(known) - 1} in their order, and keep their names"
        )
    number = {label: i for i, label in enumerate(known)}
    return np.array([number[int(label)] for label in labels], np.int32), tuple(map(str, known))


def with_classes(source: Source, names: tuple[str, ...], place: str) -> Source:
    """The source with its labels numbered as `names`, so that two splits agree on what a number means.

    A source without labels stays as it is. Raises InputError if it shows classes that `names` lacks.
    """
    if not source.class_names or source.class_names == names:
        return source
    number = np.array([names.index(name) if name in names else -1 for name in source.class_names], np.int32)
    if not isinstance(source, (ImageFiles, ArraySource)):
        raise InputError(f"{place} has the classes {some(list(source.class_names))}, training has {some(list(names))}.")
    labels = number[source.labels]
    if (labels < 0).any():
        unknown = source.class_names[int(source.labels[int(np.argmax(labels < 0))])]
        raise InputError(f"{place} has the class {unknown!r}, which training lacks: it has {some(list(names))}.")
    return dataclasses.replace(source, labels=labels, class_names=names)
