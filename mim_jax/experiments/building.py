"""From nested values to frozen settings: known keys, right types, finite numbers.

What people write is made plain here: numbers of NumPy are taken for Python's, arrays and lists for tuples, whole
numbers for floats, and floats that are whole (`1e3`) for whole numbers.
"""

import dataclasses
import math
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import ml_collections

from mim_jax.errors import InputError, likeness, ranked

Settings = TypeVar("Settings")

SAME_GROUP = 0.1
"""What a key gains over others by standing in the group where it was looked for."""

ELSEWHERE = {
    "data.mean": "it belongs to the encoder, which brings its own",
    "data.std": "it belongs to the encoder, which brings its own",
    "data.train_examples": "only the schedule of pre-training needs it",
    "data.train_split": "only test images are read here",
    "efficiency.remat": "only pre-training has gradients of an encoder",
    "efficiency.scan_blocks": "only pre-training compiles stacked blocks",
    "efficiency.accumulation": "only pre-training divides its batches",
}
"""Keys that other commands have, and why this one has not."""


class Config(ml_collections.ConfigDict):
    """A ConfigDict that makes plain what is put into it, so that every value can be changed on the command line."""

    def __setitem__(self, key: str, value: object) -> None:
        value, before = plain(value), self.get(key)
        if isinstance(value, ml_collections.ConfigDict) and not isinstance(value, Config):
            value = _as_config(value.to_dict())
        whole = type(before) is int and type(value) is float and value.is_integer()
        try:
            super().__setitem__(key, int(value) if whole else value)
        except TypeError as error:
            raise InputError(f"'{key}' must be of type {type(before).__name__}, not {value!r}") from error


def new_config(settings: Any) -> Config:
    """The settings as a configuration, for a file to change."""
    return _as_config(dataclasses.asdict(settings))


def _as_config(values: Mapping[str, Any]) -> Config:
    config = Config()
    for key, value in values.items():
        config[key] = _as_config(value) if isinstance(value, Mapping) else value
    return config


def plain(value: object) -> Any:
    """Numbers of NumPy and JAX (also in arrays of any rank) as Python's, lists as tuples."""
    if tolist := getattr(value, "tolist", None):
        value = tolist()
    if isinstance(value, (list, tuple)):
        return tuple(map(plain, value))
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def build_settings(kind: type[Settings], values: object, where: str = "config") -> Settings:
    """A dataclass from a group of values.

    Raises InputError for an unknown key, with the nearest of all keys, and for a value of the wrong type.
    """
    _check_keys(kind, values, where, list(leaf_keys(kind, where)))
    return _build(kind, values, where)


def _check_keys(kind: Any, values: object, where: str, known: list[str]) -> None:
    if not isinstance(values, (Mapping, ml_collections.ConfigDict)):
        raise InputError(f"{where} must be a group of keys, not {values!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key, value in values.items():
        if key not in fields:
            raise InputError(unknown_key(f"{where}.{key}", known))
        if dataclasses.is_dataclass(fields[key].type):
            _check_keys(fields[key].type, value, f"{where}.{key}", known)


def _build(kind: Any, values: Any, where: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    changes = {}
    for key, value in dict(values.items()).items():
        wanted = fields[key].type
        read = _build if dataclasses.is_dataclass(wanted) else _cast
        changes[key] = read(wanted, value, f"{where}.{key}")
    return kind(**changes)


def _cast(wanted: Any, value: object, where: str) -> Any:
    if typing.get_origin(wanted) is dict:
        if not isinstance(value, (Mapping, ml_collections.ConfigDict)):
            raise InputError(f"{where} must be a group of keys, not {value!r}")
        return {key: plain(item) for key, item in value.items()}
    value = plain(value)
    if typing.get_origin(wanted) is tuple:
        if not isinstance(value, tuple):
            raise InputError(f"{where} must be a tuple, not {value!r}")
        element = typing.get_args(wanted)[0]
        return tuple(_cast(element, item, f"{where}[{i}]") for i, item in enumerate(value))
    if wanted is float and type(value) is int:
        value = float(value)
    if wanted is int and type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not wanted:
        raise InputError(f"{where} must be of type {wanted.__name__}, not {value!r}")
    if wanted is float and not math.isfinite(value):
        raise InputError(f"{where} is {value}; it must be a finite number")
    return value


def leaf_keys(kind: Any, where: str) -> Iterator[str]:
    """Dotted names of all keys of nested dataclasses."""
    for field in dataclasses.fields(kind):
        name = f"{where}.{field.name}"
        yield from leaf_keys(field.type, name) if dataclasses.is_dataclass(field.type) else (name,)


def unknown_key(name: str, known: Iterable[str]) -> str:
    """The sentence about a dotted key that there is not: the nearest of all, those of the same group first."""
    (group, _, last), keys = name.rpartition("."), list(known)
    groups = sorted({key.rpartition(".")[0] for key in keys} - {"config"})
    why = ELSEWHERE.get(name.partition(".")[2])
    if why:
        return f"unknown configuration key '{name}': {why}; leave it out"
    names = {key: key.rpartition(".") for key in (*keys, *groups)}
    near = set(ranked(last, [own for _, _, own in names.values()]))
    scores = {
        key: likeness(last, own) + SAME_GROUP * likeness(group, other)
        for key, (other, _, own) in names.items()
        if own in near
    }
    if scores:
        return f"unknown configuration key '{name}'; did you mean '{max(scores, key=lambda key: scores[key])}'?"
    same = [key for key, (other, _, _) in names.items() if other == group]
    return f"unknown configuration key '{name}'; known are {', '.join(same or groups)}"
