"""Which values a statement about a model can have: one kind for every key, whoever states it."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from mim_jax.errors import InputError
from mim_jax.models.build import FAMILIES
from mim_jax.weights.files.tensors import shown

Read = Callable[[object], Any]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of value.

    Attributes:
        words: what it is, behind "must be".
        read: gives the value as configurations have it, None for what is no such value.
    """

    words: str
    read: Read


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST


def _is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def _whole(least: int) -> Read:
    return lambda value: value if _is_whole(value, least) else None


def _number(least: float = 0.0, most: float = 1e30) -> Read:
    return lambda value: float(value) if _is_number(value, least, most) else None


def _several(read: Read, single: bool = False, lengths: tuple[int, ...] = ()) -> Read:
    """Tuples, of certain `lengths` if these are given; with `single` a value alone is a tuple of one."""

    def read_all(value: object) -> tuple[Any, ...] | None:
        if not isinstance(value, (list, tuple)):
            value = (value,) if single else (None,)
        values = tuple(map(read, value))
        return None if None in values or (lengths and len(values) not in lengths) else values

    return read_all


def _pair(value: object) -> tuple[int, int] | None:
    """Rows and columns; one number is both, and so is a dictionary of Hugging Face."""
    if isinstance(value, Mapping):
        value = (value.get("height"), value.get("width"))
    return _several(_whole(1), lengths=(2,))((value, value) if isinstance(value, int) else value)


def _window(value: object) -> int | tuple[int, int] | None:
    return value if _is_whole(value, 1) else _several(_whole(1), lengths=(2,))(value)


LARGEST = 1 << 30
"""No count in a model is larger."""

COUNT = Kind("a whole number from 1", _whole(1))
COUNTS = Kind("whole numbers from 1, one for every stage", _several(_whole(1)))
COUNTS_OR_ZEROS = Kind("whole numbers from 0, one for every stage", _several(_whole(0)))
ANY_COUNT = Kind("a whole number from 0", _whole(0))
PAIR = Kind("one number of pixels or two, height and width", _pair)
WINDOW = Kind("one number, or rows and columns; for one a stage --set windows=12,12,12,6", _window)
NUMBER = Kind("a number from 0", _number())
SHARE = Kind("a number from 0 to 1", _number(0.0, 1.0))
MEANS = Kind("a number for every channel", _several(_number(-1e30), single=True))
DEVIATIONS = Kind("a number above 0 for every channel", _several(_number(1e-30), single=True))
FLAG = Kind("true or false", lambda value: value if isinstance(value, bool) else None)
FLAGS = Kind("true or false for every stage", _several(FLAG.read))
NAME = Kind("a name", lambda value: value if isinstance(value, str) else None)

OTHERS: dict[str, Kind] = {
    "readout": NAME,
    "mean": MEANS,
    "std": DEVIATIONS,
    "mask_ratio": SHARE,
    "mask_patch": COUNT,
    "normalise_target": FLAG,
    "decoder.num_heads": COUNT,
    "decoder.norm_epsilon": NUMBER,
    "decoder.activation": NAME,
}
"""Key of what can be stated besides the fields of an encoder, to its kind."""

FIELDS: dict[str, Kind] = {
    "image_size": PAIR,
    "patch_size": PAIR,
    "window": WINDOW,
    "windows": COUNTS,
    "depths": COUNTS,
    "pretrained_windows": COUNTS_OR_ZEROS,
    "shift_stages": FLAGS,
    "registers": ANY_COUNT,
    "position_prefix": ANY_COUNT,
    "norm_every": ANY_COUNT,
    "drop_path_rate": SHARE,
}
"""Field of an encoder whose type does not tell its kind, to that."""

_BY_TYPE = {bool: FLAG, int: COUNT, float: NUMBER, str: NAME, tuple: COUNTS}


def kinds(family: str) -> dict[str, Kind]:
    """Every key that can be stated of a family of encoders, and its kind."""
    fields = dataclasses.fields(FAMILIES[family][0])
    return {field.name: FIELDS.get(field.name, _BY_TYPE[type(field.default)]) for field in fields} | OTHERS


def read(kind: Kind, value: object, key: str, where: str) -> Any:
    """A value as configurations have it; raises InputError, naming the key, for what is no such value."""
    found = kind.read(value)
    if found is None or (isinstance(found, float) and math.isnan(found)):
        raise InputError(f"{key} of {where} must be {kind.words}, not {shown(repr(value))}")
    return found
