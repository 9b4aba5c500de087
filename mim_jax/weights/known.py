"""The public checkpoints that we know: what they are, where they were published, and what to beware of.

The data lies beside this module, in `known_checkpoints.json`. Nothing here needs JAX.
"""

import dataclasses
import functools
import json
from collections.abc import Iterable
from importlib import resources

from mim_jax.errors import InputError, ranked

COLUMNS = ("method", "architecture", "file", "keys", "accuracy", "published")
"""Columns of the table, in order."""

_UNKNOWN = "-"


@dataclasses.dataclass(frozen=True)
class KnownCheckpoint:
    """One published checkpoint.

    Attributes:
        file: published name of the file, with a folder where several files share a name, or a Hugging Face repository.
        method: how it was trained.
        architecture: name of a preset of `models.presets.ENCODERS`, or words where there is none.
        published: the address of the file or of the page that links to it.
        keys: number of tensors in the state dict that is read, with its heads, decoder and buffers; of a training file
            with several networks, the number in the encoder that is taken. Computed from the layout, not counted in the
            file itself. None if it is not known.
        accuracy: published top-1 accuracy on ImageNet-1k in percent for each protocol ("fine-tuning", "linear", "k-NN",
            "supervised"), of this file or, for a pre-trained one, of what was trained from it. None if not known.
        layout: name of its layout; "" if there is none for it.
        notes: what to beware of.
    """

    file: str
    method: str
    architecture: str
    published: str
    keys: int | None
    accuracy: dict[str, float] | None
    layout: str
    notes: str


@functools.cache
def known_checkpoints() -> tuple[KnownCheckpoint, ...]:
    """All known checkpoints, those of a method together."""
    text = resources.files("mim_jax.weights").joinpath("known_checkpoints.json").read_text(encoding="utf-8")
    return tuple(KnownCheckpoint(**entry) for entry in json.loads(text))


def find_checkpoints(search: str = "") -> tuple[KnownCheckpoint, ...]:
    """Known checkpoints in which every word of `search` occurs, in capitals or not, in any field but the notes.

    Raises InputError with the nearest name if there is none.
    """
    words = search.lower().split()
    found = tuple(entry for entry in known_checkpoints() if all(word in _text(entry) for word in words))
    if not found:
        raise InputError(f"no known checkpoint matches '{search}'; {_hint(words)}")
    return found


def table(search: str = "") -> str:
    """Known checkpoints as a table of aligned plain text, only those that match `search` (see `find_checkpoints`).

    A dash stands for what is not known. Raises InputError with the nearest name if nothing matches.
    """
    rows = [COLUMNS, *(_cells(entry) for entry in find_checkpoints(search))]
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _text(entry: KnownCheckpoint) -> str:
    return " ".join((entry.method, entry.architecture, entry.file, entry.layout, entry.published)).lower()


def _cells(entry: KnownCheckpoint) -> tuple[str, ...]:
    keys = _UNKNOWN if entry.keys is None else str(entry.keys)
    accuracy = ", ".join(f"{protocol} {value}" for protocol, value in (entry.accuracy or {}).items())
    return entry.method, entry.architecture, entry.file, keys, accuracy or _UNKNOWN, entry.published


def _hint(words: Iterable[str]) -> str:
    """Where to look instead: the nearest name to the first word that occurs nowhere, or the methods there are."""
    everything = known_checkpoints()
    names = sorted({name.lower() for e in everything for name in (e.file, e.architecture, e.layout, e.method) if name})
    lost = [word for word in words if not any(word in _text(entry) for entry in everything)]
    near = [match for word in lost for match in ranked(word, names)[:1]]
    methods = ", ".join(dict.fromkeys(entry.method for entry in everything))
    return f"did you mean '{near[0]}'?" if near else f"known methods are {methods}"
