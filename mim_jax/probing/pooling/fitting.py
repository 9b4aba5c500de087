"""Poolings whose heads follow the encoder that they read, where nothing is stated."""

import functools

from mim_jax.probing.pooling import POOLINGS
from mim_jax.probing.pooling.frozen import fields_of
from mim_jax.probing.pooling.naming import Constructor, options, read_call


def fitted(text: str, width: int, heads: int) -> str:
    """A pooling as text, with as many heads as divide tokens of a width.

    Heads that are stated stay. Others are as published where those divide the width; else as many as the encoder has,
    `heads`; else the most below the published number that divide it. Queries of "ep", which cut the width too, and the
    width of the heads of "capi" follow the same rule.

    Raises:
        InputError: if the text cannot be read, or names no pooling.
    """
    name, stated = read_call(text, POOLINGS)
    option = next((option for option in _splits(name) if option not in stated), None)
    if option is None:
        return text
    published = _default(POOLINGS[name], option)
    if width % published == 0:
        return text
    number = heads if width % heads == 0 else max(n for n in range(1, published + 1) if width % n == 0)
    chosen = width // number if option == "head_width" else number
    return f"{name}({', '.join(f'{key}={value}' for key, value in {**stated, option: chosen}.items())})"


def _splits(name: str) -> list[str]:
    """Options of a pooling that cut the width of a token into equal parts."""
    known = options(POOLINGS[name])
    if {"heads", "head_width"} <= known.keys():
        return []  # queries of a width of their own
    return [option for option in ("heads", "head_width") if option in known] or ["queries"] * ("d_out" in known)


def _default(constructor: Constructor, option: str) -> int:
    kind = constructor.func if isinstance(constructor, functools.partial) else constructor
    (default,) = (field.default for field in fields_of(kind) if field.name == option)
    assert isinstance(default, int)
    return default
