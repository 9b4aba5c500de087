"""Which array of a checkpoint becomes which of ours: every one has to find its place, and every place its array."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from mim_jax.errors import InputError
from mim_jax.weights.arrangement import shape_there
from mim_jax.weights.layouts import Layout
from mim_jax.weights.rules import Rule
from mim_jax.weights.state_dicts import is_tensor

SHOWN = 3  # names in a message


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of our arrays and the parts that it is made of."""

    path: str
    shape: tuple[int, ...]
    rule: Rule
    names: tuple[str, ...]
    parts: tuple[Any, ...]


def match(layout: Layout, names: Mapping[str, Any], shapes: Any) -> tuple[Entry, ...]:
    """Every array that the architecture has; raises InputError if one is missing or has another shape."""
    entries, missing = [], []
    for path, leaf in sorted(flatten_dict(shapes, sep="/").items()):
        ways = layout.sources_of(path)
        rule, sources = next((way for way in ways if all(name in names for name in way[1])), (None, ()))
        if rule is None:
            missing += [name for name in ways[0][1] if name not in names] if ways else [path]
        else:
            entries.append(Entry(path, leaf.shape, rule, sources, tuple(names[name] for name in sources)))
    if missing:
        raise InputError(f"it lacks {some(missing)}, which the architecture that it seems to have needs")
    for entry in entries:
        _check(entry)
    return tuple(entries)


def _check(entry: Entry) -> None:
    wanted = shape_there(entry.rule.pattern, entry.shape, len(entry.parts))
    for name, part in zip(entry.names, entry.parts):
        if not is_tensor(part):
            raise InputError(f"{name} is no array but a {type(part).__name__}")
        if not _is_floating(part.dtype):
            raise InputError(f"{name} has numbers of type {part.dtype}, which cannot be weights")
        if tuple(part.shape) != wanted:
            raise InputError(
                f"{name} has shape {list(part.shape)}, but {list(wanted)} is needed beside the other weights; the file "
                "is of another architecture or damaged"
            )


def _is_floating(dtype: np.dtype) -> bool:
    return jax.dtypes.issubdtype(dtype, np.floating)


def left_out(layout: Layout, names: Mapping[str, Any], entries: tuple[Entry, ...], lenient: bool) -> list[str]:
    """Sentences about arrays that nothing was made of; raises InputError for those that the layout does not know."""
    used = {name for entry in entries for name in entry.names}
    unused = [name for name in names if name not in used and is_tensor(names[name])]
    known = [name for name in unused if layout.is_extra(name)]
    unknown = [name for name in unused if not layout.is_extra(name)]
    if unknown and not lenient:
        raise InputError(
            f"it has {some(unknown)}, which the layout '{layout.name}' knows no place for; take --lenient to leave "
            "out what is not known, or --layout to name another layout"
        )
    told = [f"left out, as known and not needed: {some(known)}"] if known else []
    return [*told, *([f"left out, though not known: {some(unknown)}"] if unknown else [])]


def some(names: list[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
