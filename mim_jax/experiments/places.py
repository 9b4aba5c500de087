"""The paths among the settings, as full ones: they mean the same wherever a command is started."""

import os
from collections.abc import Mapping
from typing import Any

from mim_jax.data.splits import READINGS
from mim_jax.paths import local_path

RANDOM = "random:"
"""In front of an encoder's path: the architecture that is there, at random initialisation."""


def split_reading(source: str) -> tuple[str, str]:
    """What stands before the path of an image folder, such as "classes:" or nothing, and the path."""
    kind, colon, path = source.partition(":")
    return (f"{kind}:", path) if colon and kind in READINGS else ("", source)


def with_full_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings, given as nested values, with full paths; what is of the wrong type is left as it is.

    Raises InputError for what is no local path, such as `gs://bucket/folder`.
    """
    full = dict(config)
    if isinstance(encoders := full.get("encoders"), Mapping):
        full["encoders"] = {name: full_encoder(where) for name, where in encoders.items()}
    if isinstance(readings := full.get("readings"), Mapping) and readings.get("oracle"):
        full["readings"] = {**readings, "oracle": full_encoder(readings["oracle"])}
    if isinstance(run := full.get("run"), Mapping) and isinstance(others := run.get("merge"), (list, tuple)):
        full["run"] = {**run, "merge": type(others)(map(_full, others))}
    if isinstance(data := full.get("data"), Mapping):
        full["data"] = {**data, **_full_data(data.get("source"), data.get("data_dir"))}
    return full


def full_encoder(where: object) -> Any:
    """The full path of an encoder, behind "random:" if that stands in front."""
    if isinstance(where, str) and where.startswith(RANDOM):
        return RANDOM + _full(where.removeprefix(RANDOM))
    return _full(where)


def _full(path: object) -> Any:
    return str(local_path(path)) if isinstance(path, str) else path


def _full_data(source: object, data_dir: object) -> dict[str, Any]:
    """The settings that say where images are; a name of a data set, and what is not there, stay as they are written."""
    places = {"data_dir": _full(data_dir)} if data_dir else {}
    if not isinstance(source, str) or source == "digits" or source.startswith("tfds:"):
        return places
    kind, path = split_reading(source)
    path = os.path.expanduser(path)
    full = _full(os.path.join(places.get("data_dir", ""), path)) if path else ""
    there = full and ("{split}" in full or os.path.exists(full))
    return places | ({"source": kind + full} if there else {})
