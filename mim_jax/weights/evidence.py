"""What a checkpoint shows of its architecture: the shapes of its arrays, and what was said about it."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mim_jax.errors import InputError

Shape = tuple[int, ...]

USUAL_HEADS = {
    192: 3, 256: 4, 320: 5, 384: 6, 512: 8, 640: 10, 768: 12, 832: 13, 896: 14, 1024: 16, 1152: 16, 1280: 16,
    1408: 16, 1536: 24,
}  # fmt: skip
"""Width to the number of heads that nearly everybody takes; not MAE-Lite, whose 192 and 384 have 12."""


def _nothing(name: str) -> np.ndarray:
    raise KeyError(name)


@dataclasses.dataclass
class Evidence:
    """Where a family looks for the fields of its configuration.

    Attributes:
        arrays: path of our array to the shape of (the first part of) it in the checkpoint.
        buffers: names of arrays that are left out, and their shapes.
        given: fields that somebody stated, or that a configuration beside the weights has.
        read: gives the values of an array by our path.
        assumed: sentences about what was taken for granted; they grow while fields are worked out.
        sources: who stated a field, for messages.
        read_buffer: gives the values of an array that is left out, by its name.
        unplaced_prefix: whether the prefix tokens may have no positions of their own.
    """

    arrays: Mapping[str, Shape]
    buffers: Mapping[str, Shape]
    given: Mapping[str, Any]
    read: Callable[[str], np.ndarray]
    assumed: list[str] = dataclasses.field(default_factory=list)
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    read_buffer: Callable[[str], np.ndarray] = _nothing
    unplaced_prefix: bool = True

    def __contains__(self, path: str) -> bool:
        return path in self.arrays

    @property
    def has_layer_scale(self) -> bool:
        """Whether branches are multiplied by factors."""
        return "encoder/blocks/0/gamma_1" in self.arrays

    def shape(self, path: str) -> Shape:
        """Shape in the checkpoint of an array that must be there."""
        if path not in self.arrays:
            raise InputError(f"it lacks what becomes {path}, without which its architecture cannot be told")
        return self.arrays[path]

    def count(self, expression: str) -> int:
        """One more than the largest number that a regular expression finds in our paths, 0 without any."""
        found = [re.match(expression, path) for path in self.arrays]
        return max((int(match[1]) + 1 for match in found if match), default=0)

    def buffer(self, expression: str) -> str | None:
        """The first array left out whose name matches."""
        return next((name for name in self.buffers if re.fullmatch(expression, name)), None)

    def source(self, key: str) -> str:
        """Who stated a field."""
        return self.sources.get(key, f"--set {key}")

    def heads(self, width: int, key: str, usual: Mapping[int, int] = USUAL_HEADS) -> int:
        """Heads as stated, or by convention; raises InputError where there is none."""
        if key in self.given:
            return int(self.given[key])
        if width not in usual:
            raise InputError(
                f"the number of attention heads cannot be told from tokens of width {width}; state it with "
                f"--set {key}=NUMBER"
            )
        self.assumed.append(f"{key}={usual[width]}, as usual for width {width}; if not, --set {key}=NUMBER")
        return usual[width]


def ratio(hidden: int, width: int) -> float:
    """The `mlp_ratio` with which `int(width * ratio)` is exactly `hidden`."""
    value = hidden / width
    return value if int(width * value) == hidden else float(np.nextafter(value, np.inf))
