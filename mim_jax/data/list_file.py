"""List files: images named line by line, with or without labels."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mim_jax.data.folder import ImageFiles, unlabelled
from mim_jax.data.labels import number_labels
from mim_jax.data.listing import ENDINGS
from mim_jax.data.splits import TRAINING
from mim_jax.data.telling import some, tell
from mim_jax.errors import InputError

LIST_ENDINGS = (".txt", ".csv", ".tsv", ".lst", ".list")

MOST_DIGITS = 20

_ENDING = "|".join(sorted(ending[1:] for ending in ENDINGS))
_QUOTED = re.compile(r"""(?P<quote>["'])(?P<path>.+?)(?P=quote)(?:[\s,;]+(?P<label>.*))?""")
_IMAGE = re.compile(rf"(?P<path>.+\.(?:{_ENDING}))(?:[\s,;]+(?P<label>.*))?", re.IGNORECASE)
_COLUMNS = re.compile(
    r"(?P<path>[^\t]+)\t+(?P<label>.*)|(?P<number_path>\S.*?)[\s,;]+(?P<number>[+-]?\d+)|(?P<only>\S+)"
)
"""A line: a path in quotes; one with an ending of images; or any, where a TAB or a number shows what the label is."""


class Line(NamedTuple):
    """One image of a list."""

    number: int
    path: str
    label: str


def open_list(path: Path, split: str) -> ImageFiles:
    """Images named in a text file, one `path[<TAB, comma or space>label]` per line, relative to the file's folder.

    Labels are whole numbers from 0, or words: the names of classes. Classes are numbered in the order of their numbers
    or names as the training list has them, whatever numbers they have. `{split}` in the path is replaced by the split;
    a path without it holds the training images only. Lines that are empty or begin with # are no images. Raises
    `InputError` for a missing or empty file, a missing first image, or a bad label.
    """
    file = list_path(path, split)
    lines = _read(file)
    _check_first(file, lines)
    files = [_full(file, line.path) for line in lines]
    _tell_twice(file, lines)
    if not _labelled(file, lines):
        return unlabelled(files)
    reference = list_path(path, "train")
    train = _read(reference) if reference != file and reference.is_file() else lines
    numbers, names = number_labels([line.label for line in train if line.label], str(reference))
    if train is not lines:
        numbers = _number_by(names, file, lines)
    return ImageFiles(files, numbers, names)


def check_list(path: Path, split: str, *, needs_labels: bool = False) -> None:
    """Raises the InputError that `open_list` would, as far as the first image of the list tells."""
    file = list_path(path, split)
    lines = _read(file, most=1)
    _check_first(file, lines)
    if needs_labels and not lines[0].label:
        raise InputError(f"The images of {file} have no labels: write one behind every path, with a TAB between.")


def list_path(path: Path, split: str) -> Path:
    """The list of a split; raises InputError if there is only one, for training."""
    if "{split}" not in str(path) and split not in TRAINING:
        raise InputError(
            f"The list file {path} serves the split 'train' only, not {split!r}: "
            "name one file per split with {split} in the path, such as lists/{split}.txt."
        )
    return Path(str(path).replace("{split}", split))


def _read(file: Path, most: int | None = None) -> list[Line]:
    if not file.is_file():
        raise InputError(f"The list file {file} does not exist.")
    try:
        rows = re.split(r"\r\n|\r|\n", _decoded(file.read_bytes()))
    except OSError as error:
        raise InputError(f"The list file {file} cannot be read: {error.strerror}.") from error
    numbered = [(number, row.strip()) for number, row in enumerate(rows, 1) if row.strip()]
    named = [(number, row) for number, row in numbered if not row.startswith("#")]
    if len(named) < len(numbered):
        tell(f"{file}: {len(numbered) - len(named)} lines that begin with # are left out; a path may begin with ./#")
    if not named:
        raise InputError(f"The list file {file} is empty: write one image path per line.")
    return [_line(file, number, row) for number, row in named[:most]]


def _decoded(data: bytes) -> str:
    """UTF-8 with or without a mark in front, or UTF-16 with one; other bytes of names are kept as they are."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="surrogateescape")


def _line(file: Path, number: int, row: str) -> Line:
    found = next(filter(None, (kind.fullmatch(row) for kind in (_QUOTED, _IMAGE, _COLUMNS))), None)
    if found is None:
        raise InputError(f"{file}, line {number}: which part of {row!r} is the label? Put a TAB in front of it.")
    parts = found.groupdict()
    path = next(filter(None, (parts.get(key) for key in ("path", "number_path", "only"))))
    label = (parts.get("label") or parts.get("number") or "").strip().strip("\"'")
    if re.search(r"[\t,;]", label):
        raise InputError(f"{file}, line {number}: {row!r} has more than a path and a label; leave the rest out.")
    return Line(number, path.strip(), _checked(label, f"{file}, line {number}"))


def _checked(label: str, place: str) -> str:
    if re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", label) and not (label.isdecimal() and len(label) < MOST_DIGITS):
        raise InputError(
            f"{place}: the label {label!r} is not a whole number from 0; leave labels out of a list without labels."
        )
    return label


def _full(file: Path, path: str) -> str:
    return os.path.join(file.parent, os.path.expanduser(path))


def _check_first(file: Path, lines: list[Line]) -> None:
    first = _full(file, lines[0].path)
    if not os.path.isfile(first):
        raise InputError(f"{file} names {first} first, which does not exist: paths are relative to {file.parent}.")


def _labelled(file: Path, lines: list[Line]) -> bool:
    without = [line for line in lines if not line.label]
    if without and len(without) < len(lines):
        raise InputError(
            f"{file} has lines with and without a label; {_full(file, without[0].path)} has none, in line "
            f"{without[0].number}."
        )
    words = [line for line in lines if line.label and not line.label.isdecimal()]
    if words and len(words) < len(lines):
        raise InputError(
            f"{file}, line {words[0].number}: the label {words[0].label!r} is not a whole number, but others are: "
            "give all classes numbers, or all of them names."
        )
    return not without


def _number_by(names: tuple[str, ...], file: Path, lines: list[Line]) -> np.ndarray:
    """Labels by the names of the training list's classes."""
    number = {name: i for i, name in enumerate(names)}
    labels = [str(int(line.label)) if line.label.isdecimal() else line.label for line in lines]
    if unknown := sorted({label for label in labels if label not in number}):
        raise InputError(f"{file} has labels that the training list lacks: {some(unknown)}.")
    return np.array([number[label] for label in labels], np.int32)


def _tell_twice(file: Path, lines: list[Line]) -> None:
    distinct, pairs = {line.path for line in lines}, {(line.path, line.label) for line in lines}
    if len(distinct) < len(lines):
        more = f", {len(pairs) - len(distinct)} with another label" if len(pairs) > len(distinct) else ""
        tell(f"{file}: {len(lines) - len(distinct)} lines name an image that an earlier one names{more}; all are used")
