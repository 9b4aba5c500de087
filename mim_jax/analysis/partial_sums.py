"""What a pass has found so far, on disk: to go on from after a kill, and to merge with what other runs found."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mim_jax.analysis.collecting import Collected
from mim_jax.analysis.moments import Moments, merge_parts
from mim_jax.errors import InputError
from mim_jax.files import read_arrays, write_arrays


@dataclasses.dataclass(frozen=True)
class SumsFile:
    """A file of sums.

    Attributes:
        path: where it is.
        what: hash of everything that decides what is measured: weights, preprocessing, statistics.
        images: hash of the images in their order and batches.
    """

    path: Path
    what: str
    images: str

    def save(self, found: Collected) -> None:
        """Writes the sums, complete or not at all."""
        leaves = {jax.tree_util.keystr(at): np.asarray(leaf) for at, leaf in jax.tree.leaves_with_path(found.moments)}
        facts = {"what": self.what, "images": self.images, "batches": found.batches, "enough": found.enough}
        write_arrays(self.path, {name: np.array(value) for name, value in facts.items()} | leaves)

    def load(self, like: Moments) -> Collected:
        """The sums to go on from: nothing found if there is no file, or it is of something else.

        `like` has the shapes of the moments. Raises InputError if the file cannot be read.
        """
        stored = _read(self.path) if self.path.is_file() else {}
        if (stored.get("what"), stored.get("images")) != (self.what, self.images):
            return Collected()
        return Collected(_moments(self.path, stored, like), int(stored["batches"]), bool(stored["enough"]))

    def merged(self, own: Moments, others: Sequence[Path]) -> Moments:
        """The moments of this run and of others together, in float64.

        Raises InputError if a file is missing, holds something else, or was made of the same images as another.
        """
        parts, seen = [own], {self.images: self.path}
        for path in others:
            stored = _read(path) if path.is_file() else {}
            if stored.get("what") != self.what:
                raise InputError(
                    f"{path} holds no sums of the same encoder and statistics; let that run end, with the same "
                    "configuration"
                )
            if (images := str(stored["images"])) in seen:
                raise InputError(f"{path} and {seen[images]} are of the same images; name every part once")
            seen[images] = path
            parts.append(_moments(path, stored, own))
        return merge_parts(parts)


def _read(path: Path) -> dict[str, Any]:
    return {name: leaf.item() if leaf.dtype.kind == "U" else leaf for name, leaf in read_arrays(path).items()}


def _moments(path: Path, stored: dict[str, Any], like: Moments) -> Moments:
    try:
        leaves = [stored[jax.tree_util.keystr(place)] for place, _ in jax.tree.leaves_with_path(like)]
    except KeyError as error:
        raise InputError(f"{path} lacks {error}; move it elsewhere, and the pass starts anew") from error
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
