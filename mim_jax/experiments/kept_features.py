"""Features of images on disk, batch by batch, so that a pass that was stopped need not compute them again."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mim_jax.analysis.collecting import Features
from mim_jax.files import read_arrays, write_arrays


@dataclasses.dataclass(frozen=True)
class KeptFeatures:
    """The features of one encoder in a folder, one file a batch."""

    folder: Path

    def write(self, batch: int, features: Features) -> None:
        """Keeps those of batch number `batch`."""
        arrays = {f"{kind}/{layer:04d}": values for kind, own in features.items() for layer, values in enumerate(own)}
        write_arrays(self._path(batch), arrays)

    def read(self, batches: int) -> list[Features]:
        """Those of the first batches; raises InputError if a file is missing or cannot be read."""
        return [_read(self._path(batch)) for batch in range(batches)]

    def complete(self, batches: int) -> bool:
        """Whether those of the first batches are all there."""
        return all(self._path(batch).is_file() for batch in range(batches))

    def read_all(self) -> list[Features]:
        """Those of all batches."""
        return [_read(path) for path in sorted(self.folder.glob("*.npz"))]

    def _path(self, batch: int) -> Path:
        return self.folder / f"{batch:06d}.npz"


def _read(path: Path) -> Features:
    features: Features = {}
    for name, values in sorted(read_arrays(path).items()):
        features.setdefault(name.split("/")[0], []).append(values)
    return features


def joined_features(parts: Sequence[Features], limit: int = 0) -> Features:
    """Features of all parts one after the other, of at most `limit` images if given."""
    if not parts:
        return {}
    stop = limit or None
    return {
        kind: [np.concatenate([part[kind][layer] for part in parts])[:stop] for layer in range(len(own))]
        for kind, own in parts[0].items()
    }
