"""Poolings written as text: `name` or `name(option=value, ...)`."""

import functools
import re
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal

from mim_jax.errors import InputError, nearest
from mim_jax.probing.pooling.frozen import Pooling, check_choice, fields_of

Constructor = Callable[..., Pooling]

OTHER_NAMES = {"pos": "mean", "gap": "mean", "dino": "oracle", "class_token": "cls"}
"""What poolings are called elsewhere."""

_CALL = re.compile(r"\s*([\w-]+)\s*(?:\((.*)\))?\s*")
_BOOLEANS = {"true": True, "false": False}
_KINDS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    bool: ("true or false", lambda text: _BOOLEANS[text.lower()]),
    int: ("a whole number", int),
    float: ("a number", float),
    str: ("text", str),
}


def construct(text: str, table: dict[str, Constructor]) -> Pooling:
    """The pooling of a table that `text` names, with the options it states.

    Raises:
        InputError: if the text cannot be read, a name or an option is unknown, or a value does not fit.
    """
    name, stated = read_call(text, table)
    kinds = options(table[name])
    return table[name](**{key: _read(name, key, value, kinds) for key, value in stated.items()})


def read_call(text: str, table: dict[str, Constructor]) -> tuple[str, dict[str, str]]:
    """Name of a pooling and its stated options as text; raises InputError for what is no such text or name."""
    call = _CALL.fullmatch(text)
    if call is None:
        raise InputError(f"'{text}' is no pooling; write a name, or one with options, like 'ca2(scale=sum)'")
    name, stated = call.groups()
    if name not in table:
        raise InputError(f"unknown pooling '{name}'; {nearest(OTHER_NAMES.get(name, name), table)}")
    return name, dict(_stated(name, stated or ""))


def options(constructor: Constructor) -> dict[str, Any]:
    """Options of a pooling with what they may be: `bool`, `int`, `float`, `str`, or a `Literal`."""
    given = constructor.keywords if isinstance(constructor, functools.partial) else {}
    kind = constructor.func if isinstance(constructor, functools.partial) else constructor
    return {
        field.name: field.type
        for field in fields_of(kind)
        if field.name not in given and (field.type in _KINDS or typing.get_origin(field.type) is Literal)
    }


def _stated(name: str, text: str) -> Iterable[tuple[str, str]]:
    pairs = [part.partition("=") for part in text.split(",")] if text.strip() else []
    keys = [key.strip() for key, _, _ in pairs]
    for key, (_, equals, value) in zip(keys, pairs, strict=True):
        if not equals or keys.count(key) > 1:
            raise InputError(f"options of the pooling '{name}' are written option=value, each once, not '{text}'")
        yield key, value.strip()


def _read(name: str, option: str, text: str, kinds: dict[str, Any]) -> Any:
    if option not in kinds:
        known = nearest(option, kinds) if kinds else "it has none"
        raise InputError(f"the pooling '{name}' has no option '{option}'; {known}")
    kind = kinds[option]
    if kind not in _KINDS:
        choices = {str(choice): choice for choice in typing.get_args(kind)}
        check_choice(option, text, tuple(choices))
        return choices[text]
    description, read = _KINDS[kind]
    try:
        return read(text)
    except (ValueError, KeyError):
        raise InputError(f"option {option} of the pooling '{name}' must be {description}, not '{text}'") from None
