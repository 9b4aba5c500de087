"""Objects that hold arrays in a few words: what `print` shows of them."""

import dataclasses
from collections.abc import Mapping

MOST = 8
LONGEST = 200


def shown(holder: object) -> str:
    """A dataclass or NamedTuple with the type and shape of every array in it, not their values."""
    names = getattr(holder, "_fields", None) or [field.name for field in dataclasses.fields(holder)]  # ty: ignore
    given = [(name, getattr(holder, name)) for name in names]
    parts = [f"{name}={in_words(value)}" for name, value in given if value is not None and value != ()]
    return f"{type(holder).__name__}({', '.join(parts)})"


def in_words(value: object) -> str:
    """A value: arrays, traced ones too, as `float32[2,197,768]`; tuples and dicts of them; the rest as it prints."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, Mapping):
        return _several([f"{key!r}: {in_words(item)}" for key, item in value.items()], "{}")
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        words = [in_words(item) for item in value]
        if len(words) > 2 and len(set(words)) == 1:
            return f"{len(words)} x {words[0]}"
        return _several(words, "()" if isinstance(value, tuple) else "[]")
    return shortened(repr(value))


def shortened(text: str, longest: int = LONGEST) -> str:
    """A text in one line that is not too long."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _several(words: list[str], brackets: str) -> str:
    more = [f"{len(words) - MOST} more"] if len(words) > MOST else []
    return brackets[0] + ", ".join([*words[:MOST], *more]) + brackets[1]
