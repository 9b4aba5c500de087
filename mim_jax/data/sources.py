"""One name for every kind of image source."""

import os
from pathlib import Path

from mim_jax.data.arrays import open_digits
from mim_jax.data.folder import open_folder, open_list
from mim_jax.data.record import Source
from mim_jax.data.tfds import open_tfds
from mim_jax.errors import InputError, ranked


def open_source(source: str, split: str, *, data_dir: str = "") -> Source:
    """Open a data set by name: what the config calls `data.source`.

    Args:
        source: "digits"; the path of an image folder (also "folder:/path"); the path of a list file (*.txt);
            or "tfds:name[/config][:version]".
        split: "train", "val", "test", or what the source calls it.
        data_dir: where TFDS data sets lie, and what relative paths are relative to.

    Raises:
        InputError: nothing is found under that name, or it lacks the split.
    """
    kind, _, rest = source.partition(":")
    path = os.path.join(os.path.expanduser(data_dir), os.path.expanduser(rest if kind == "folder" else source))
    if source == "digits":
        return open_digits(split)
    if kind == "tfds":
        return open_tfds(rest, split, data_dir)
    if source.endswith(".txt"):
        return open_list(path, split)
    if kind == "folder" or Path(path).is_dir():
        return open_folder(path, split)
    raise InputError(_unknown(source, path))


def _unknown(source: str, path: str) -> str:
    close = ranked(source, ["digits"])
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return (
        f"The data source {source!r} is none of 'digits', 'tfds:name', a list file (*.txt) or a folder: "
        f"there is no folder {path}.{hint}"
    )
