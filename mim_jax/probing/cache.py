"""Features on disk: written batch by batch, so that a run that was stopped goes on, and kept for the next one."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mim_jax.files import read_arrays, write_arrays

Arrays = dict[str, np.ndarray]


class FeatureCache:
    """Features of one set of images under one encoder.

    Args:
        folder: where features lie; one folder below it is made for every key.
        key: hash of everything that decides the features.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / key

    def collect(self, parts: int, compute: Callable[[int], Iterable[Arrays]], *, active: bool = True) -> Arrays:
        """All features in order; `compute(start)` gives those of the parts from `start` on, one after the other.

        Parts that are there are not computed again. Only one process (`active`) writes, all get the same.
        """
        start = self._complete(parts)
        stored = [self._read(part) for part in range(start)]
        for part, arrays in enumerate(compute(start) if start < parts else (), start):
            if active:
                self._write(part, arrays)
            stored.append(arrays)
        return {name: np.concatenate([arrays[name] for arrays in stored]) for name in stored[0]}

    def _complete(self, parts: int) -> int:
        """Number of parts that are there, from the first one without a gap."""
        return next((part for part in range(parts) if not self._path(part).is_file()), parts)

    def _path(self, part: int) -> Path:
        return self.folder / f"{part:06d}.npz"

    def _read(self, part: int) -> Arrays:
        return read_arrays(self._path(part))

    def _write(self, part: int, arrays: Arrays) -> None:
        write_arrays(self._path(part), arrays)
