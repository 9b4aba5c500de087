"""One name for every kind of image source."""

import os
from collections.abc import Sequence
from pathlib import Path

from mim_jax.data.arrays import check_digits, open_digits
from mim_jax.data.folder import check_folder, open_folder
from mim_jax.data.list_file import LIST_ENDINGS, check_list, open_list
from mim_jax.data.record import Source
from mim_jax.data.splits import READINGS
from mim_jax.data.tfds import check_tfds, open_tfds
from mim_jax.errors import InputError, ranked
from mim_jax.paths import local_path


def open_source(source: str | Path, split: str, *, data_dir: str = "") -> Source:
    """Open a data set by name: what the config calls `data.source`.

    Args:
        source: "digits"; the path of an image folder, also "folder:/path", or "classes:/path" or "splits:/path" to say
            what the folders in it are; the path of a list file (*.txt, *.csv, *.tsv, *.lst); or
            "tfds:name[/config][:version]".
        split: "train", "val", "test", or what the source calls it.
        data_dir: where TFDS data sets lie, and what relative paths are relative to.

    Raises:
        InputError: nothing is found under that name, or it lacks the split.
    """
    kind, place = _recognised(str(source), data_dir)
    if kind == "digits":
        return open_digits(split)
    if kind == "tfds":
        return open_tfds(place, split, data_dir)
    if kind == "list":
        return open_list(Path(place), split)
    return open_folder(Path(place), split, kind)


def check_source(source: str | Path, splits: Sequence[str], data_dir: str = "", *, needs_labels: bool = False) -> None:
    """Raises the InputError that `open_source` would, as far as names of files tell: quickly, and without JAX.

    Looks for the folder, its splits and the first image of each, or for the list and its first image. With
    `needs_labels` images without classes are refused too.
    """
    kind, place = _recognised(str(source), data_dir)
    for split in splits:
        if kind == "digits":
            check_digits(split)
        elif kind == "tfds":
            check_tfds(place, data_dir)
        elif kind == "list":
            check_list(Path(place), split, needs_labels=needs_labels)
        else:
            check_folder(Path(place), split, kind, needs_labels=needs_labels)


def _recognised(source: str, data_dir: str) -> tuple[str, str]:
    """The kind of a source, and its path or name: "digits", "tfds", "list", or one of `READINGS` for a folder."""
    prefix, colon, rest = source.partition(":")
    if source == "digits":
        return "digits", ""
    prefix = prefix if colon else ""
    if prefix == "tfds":
        return "tfds", rest
    given = rest if prefix in READINGS else source
    path = local_path(given if given.startswith("~") else os.path.join(data_dir, given))
    if prefix in READINGS or path.is_dir():
        return prefix if prefix in READINGS else "folder", str(path)
    if path.suffix.lower() in LIST_ENDINGS:
        return "list", str(path)
    raise InputError(_unknown(source, path))


def _unknown(source: str, path: Path) -> str:
    if path.is_file():
        return f"The data source {path} is neither a folder nor a list file, which ends in {', '.join(LIST_ENDINGS)}."
    close = ranked(source, ["digits"])
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return (
        f"The data source {source!r} is none of 'digits', 'tfds:name', a list file (*.txt) or a folder: "
        f"there is no folder {path}.{hint}"
    )
