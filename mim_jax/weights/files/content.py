"""What a checkpoint file holds: nested dicts, lists and tuples of values, walked without recursion."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from mim_jax.errors import InputError
from mim_jax.weights.files.tensors import StoredTensor, shown

DEEPEST = 64
MOST_VALUES = 2_000_000

_END = object()

Content = TypeVar("Content")


def walk(content: object) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value with its place (the keys and numbers that lead to it), containers before what is in them.

    A value that lies in several places comes once for each. Raises InputError for what is nested deeper than
    `DEEPEST`, also when it holds itself, and for more than `MOST_VALUES`.
    """
    place: list[Any] = []
    levels = [iter([(None, content)])]
    for _ in range(MOST_VALUES):
        key, value = next(levels[-1], (None, _END))
        if value is _END:
            levels.pop()
            if not levels:
                return
            place.pop()
            continue
        where = (*place[1:], key) if place else ()
        yield where, value
        if isinstance(value, dict | list | tuple):
            if len(levels) > DEEPEST:
                raise InputError(f"it is nested deeper than {DEEPEST} levels")
            place.append(key)
            levels.append(iter(value.items() if isinstance(value, dict) else enumerate(value)))
    raise InputError(f"it holds more than {MOST_VALUES} values")


def place_name(place: tuple[Any, ...]) -> str:
    """A place as messages show it: `model/norm.weight`."""
    return shown("/".join(map(str, place)), 160)


def checked(content: Content, path: Path) -> Content:
    """`content`, when `walk` can walk it and every tensor in it is possible.

    Raises InputError with the file and the tensor's place.
    """
    try:
        for place, value in walk(content):
            if isinstance(value, StoredTensor) and (problem := value.problem()):
                raise InputError(f"tensor {place_name(place)} {problem}")
    except InputError as error:
        raise InputError(f"{path} is refused: {error}; get the file again or save its state_dict anew") from None
    return content
