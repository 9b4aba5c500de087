"""Objects that hold arrays in a few words: what `print` shows of them."""

from collections.abc import Mapping

MOST = 8
LONGEST = 200


def shown(holder: object) -> str:
    """A dataclass or NamedTuple with the type and shape of every array in it, not their values."""
    kinds = reversed(type(holder).__mro__)
    names = dict.fromkeys(name for kind in kinds for name in vars(kind).get("__annotations__", ()))
    given = {name: in_words(getattr(holder, name)) for name in names if hasattr(holder, name)}
    parts = [f"{name}={words}" for name, words in given.items() if words not in ("None", "()")]
    return f"{type(holder).__name__}({', '.join(parts)})"


def in_words(value: object) -> str:
    """A value: arrays, traced ones too, as `float32[2,197,768]`; tuples and dicts of them; the rest as it prints."""
    shape, dtype = (getattr(value, name, None) for name in ("shape", "dtype"))
    if isinstance(shape, tuple) and dtype is not None:
        return f"{dtype}[{','.join(map(str, shape))}]"
    if isinstance(value, Mapping):
        whole = _several([f"{key!r}: {in_words(item)}" for key, item in value.items()], "{}")
        return whole if len(whole) <= LONGEST else _several([f"{key!r}: ..." for key in value], "{}")
    if isinstance(value, (tuple, list)) and type(value).__repr__ in (tuple.__repr__, list.__repr__):
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
