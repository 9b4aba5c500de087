"""Part of a source."""

import dataclasses

import numpy as np
from jaxtyping import Int

from mim_jax.data.record import Record, Source
from mim_jax.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
    """Some records of a source, in the order of `indices`."""

    source: Source
    indices: Int[np.ndarray, " b"]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        return self.source[int(self.indices[index])]

    def describe(self, index: int) -> str:
        """What the source calls the record."""
        return self.source.describe(int(self.indices[index]))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the source."""
        return self.source.class_names


def random_subset(source: Source, size: int, seed: int) -> Source:
    """`size` records drawn without replacement, in their order; the source itself if it has no more, or `size` is 0."""
    if not 0 < size < len(source):
        return source
    chosen = np.random.default_rng(seed).choice(len(source), size, replace=False)
    return Subset(source, np.sort(chosen))


def hold_out(source: Source, fraction: float, seed: int) -> tuple[Source, Source]:
    """A source in two: what stays, and a random part of about `fraction` that is held out, at least one record each.

    Raises InputError if there is only one record.
    """
    if len(source) < 2:
        raise InputError("one image cannot be divided into a part to train on and a part held out; give more")
    held = min(max(1, round(fraction * len(source))), len(source) - 1)
    order = np.random.default_rng(seed).permutation(len(source))
    return Subset(source, np.sort(order[held:])), Subset(source, np.sort(order[:held]))
