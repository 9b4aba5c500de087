"""Which array of a checkpoint becomes which of ours: every one has to find its place, and every place its array."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from flax.traverse_util import flatten_dict

from mim_jax.errors import InputError
from mim_jax.weights.arrangement import shape_there
from mim_jax.weights.files.tensors import shown
from mim_jax.weights.layouts import Layout
from mim_jax.weights.rules import Rule
from mim_jax.weights.state_dicts import Stored, is_tensor, what_is

SHOWN = 3  # names in a message

READOUT = ("fc_norm/", "head_dist/")
"""Beginnings of paths between an encoder and its classifier; without that, nothing needs them."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of our arrays and the parts that it is made of."""

    path: str
    shape: tuple[int, ...]
    rule: Rule
    names: tuple[str, ...]
    parts: tuple[Stored, ...]


def match(
    layout: Layout, names: Mapping[str, object], shapes: Mapping[str, Any], own: Mapping[str, str]
) -> tuple[Entry, ...]:
    """Every array that the architecture has; raises InputError if one is missing or has another shape.

    `own` are the names in the file, which messages and entries have.
    """
    found, missing = [], []
    for path, leaf in sorted(flatten_dict(shapes, sep="/").items()):
        ways = layout.sources_of(path)
        rule, sources = next((way for way in ways if all(name in names for name in way[1])), (None, ()))
        if rule is None:
            missing += [name for name in ways[0][1] if name not in names] if ways else [path]
        else:
            found.append((path, leaf.shape, rule, {own[name]: names[name] for name in sources}))
    if missing:
        raise InputError(f"it lacks {some(missing)}, which the architecture that it seems to have needs")
    return tuple(_entry(*place) for place in found)


def _entry(path: str, shape: tuple[int, ...], rule: Rule, parts: Mapping[str, object]) -> Entry:
    """One of our arrays from its parts by their names; raises InputError if they do not fit."""
    wanted, checked = shape_there(rule.pattern, shape, len(parts)), []
    for own, part in parts.items():
        name = shown(own)
        if not is_tensor(part):
            raise InputError(f"{name} is no array but {what_is(part)}")
        if tuple(part.shape) != wanted:
            raise InputError(
                f"{name} has shape {list(part.shape)}, but {list(wanted)} is needed beside the other weights; "
                "the architecture is another one"
            )
        checked.append(part)
    return Entry(path, shape, rule, tuple(parts), tuple(checked))


def left_out(
    layout: Layout, names: Mapping[str, object], entries: tuple[Entry, ...], lenient: bool, own: Mapping[str, str]
) -> list[str]:
    """Sentences about arrays that nothing was made of; raises InputError for those that the layout does not know."""
    used = {name for entry in entries for name in entry.names}
    unused = [name for name in names if own[name] not in used and is_tensor(names[name])]
    headless = not any(entry.path.startswith("head/") for entry in entries)
    kinds = {name: _kind(layout, name, headless) for name in unused}
    known, readout, unknown = ([own[n] for n in unused if kinds[n] == kind] for kind in ("known", "readout", ""))
    if unknown and not lenient:
        raise InputError(
            f"it has {some(unknown)}, which the layout '{layout.name}' knows no place for; take --lenient to leave "
            "out what is not known, or --layout to name another layout"
        )
    told = {
        "as known and not needed": known,
        "as they belong to a classifier that is not there": readout,
        "though not known": unknown,
    }
    return [f"left out, {why}: {some(names)}" for why, names in told.items() if names]


def _kind(layout: Layout, name: str, headless: bool) -> str:
    if layout.is_extra(name):
        return "known"
    return "readout" if headless and any(path.startswith(READOUT) for path in layout.targets([name])) else ""


def some(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(shown(name, 160) for name in names[:SHOWN]) + more
