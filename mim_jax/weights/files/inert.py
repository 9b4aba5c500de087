"""What stands for a pickle's classes and objects: names and placeholders that do nothing."""

import dataclasses
from typing import Any, TypeVar

import numpy as np

from mim_jax.weights.files.tensors import MOST_AXES

MOST_KEY_PARTS = 64

Key = TypeVar("Key")

_NO_KEYS = (tuple, frozenset, list, dict, set, bytearray, np.ndarray)


@dataclasses.dataclass(frozen=True)
class Global:
    """A class, function or constant that a pickle names; only the name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclasses.dataclass(eq=False, slots=True)
class Opaque:
    """An object whose class is only named.

    Attributes:
        name: module and class, such as "argparse.Namespace".
        arguments: what its class would be called with.
        state: its attributes, mostly a dict.
        items: what it holds as a kind of dict.
        values: what it holds as a kind of list.
    """

    name: str
    arguments: tuple = dataclasses.field(default=(), repr=False)
    state: Any = dataclasses.field(default=None, repr=False)
    items: dict = dataclasses.field(default_factory=dict, repr=False)
    values: list = dataclasses.field(default_factory=list, repr=False)

    def get(self, key: str, default: object = None) -> Any:
        """An item or attribute of that name."""
        attributes = self.state if isinstance(self.state, dict) else {}
        return self.items.get(key, attributes.get(key, default))


def new_object(kind: object, *arguments: object) -> Opaque:
    """An inert object of any class, without calling it; raises TypeError if `kind` is no name."""
    if not isinstance(kind, Global):
        raise TypeError("not a class")
    return Opaque(str(kind), arguments)


def check_key(key: Key) -> Key:
    """A key that is cheap and safe to hash: no nested tuples, whose hash would recurse; raises TypeError."""
    items = key if isinstance(key, tuple) else (key,)
    if len(items) > MOST_KEY_PARTS or any(isinstance(item, _NO_KEYS) for item in items):
        raise TypeError("not a plain key")
    return key


def integers(values: object) -> tuple[int, ...]:
    """`values` if they are a tuple of integers, such as a shape; raises TypeError."""
    if not isinstance(values, tuple) or len(values) > MOST_AXES or any(type(value) is not int for value in values):
        raise TypeError("not a tuple of integers")
    return values
