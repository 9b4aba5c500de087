"""Finding state dicts in what a checkpoint holds: dictionaries of arrays under dotted names.

What wraps modules is taken out of the names, counters of averaging are put aside.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeGuard

import numpy as np

from mim_jax.errors import InputError
from mim_jax.weights.files.content import place_name, walk
from mim_jax.weights.files.inert import Opaque
from mim_jax.weights.files.tensors import StoredTensor, shown

WRAPPER = re.compile(r"module|_(?:[a-z]+_)*mod(?:ule)?")
"""Part of a name that DDP, FSDP, torch.compile, activation checkpointing and their like put in front of a module."""

COUNTERS = frozenset(
    "n_averaged num_updates updates decay ema_decay initted step steps epoch iteration version".split()
)
"""Names of single numbers beside weights: how often and how fast something was averaged."""

NO_WEIGHTS = ("optimizer", "optimizers", "optimizer_states", "scaler", "lr_scheduler", "lr_schedulers")

MAX_DEPTH = 4

DISTRIBUTED = ("DTensor", "ShardedTensor")
"""Ends of the names of classes of tensors of which every process saves a part."""

Stored = StoredTensor | np.ndarray
"""An array of a checkpoint, which may still lie in its file."""


@dataclasses.dataclass(frozen=True)
class StateDict:
    """A dictionary of arrays.

    Attributes:
        place: keys that lead to it.
        values: what lies there by its name without wrappers (arrays, if it is sound).
        own: the same names as they are in the file.
        counters: names of single numbers that are no weights.
    """

    place: tuple[str, ...]
    values: dict[str, object]
    own: dict[str, str]
    counters: tuple[str, ...] = ()


def is_tensor(value: object) -> TypeGuard[Stored]:
    """Whether a value of a checkpoint is an array."""
    return isinstance(value, (StoredTensor, np.ndarray))


def what_is(value: object) -> str:
    """What a value that is no array is, for a message."""
    if not isinstance(value, Opaque):
        return f"a {type(value).__name__}"
    if value.name.endswith(DISTRIBUTED):
        return (
            f"one process's part of a distributed tensor ({shown(value.name)}); gather the model's full state dict and "
            "save that"
        )
    return f"an object of {shown(value.name)}"


def find_state_dicts(content: object) -> list[StateDict]:
    """All state dicts in a checkpoint; raises InputError if there is none, or if two of its names become one."""
    found = [_unwrapped(place, names) for place, names in _dictionaries(content)]
    if not found:
        raise InputError(f"there are no weights in it: {_contents(content)}")
    return found


def _dictionaries(content: object, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, object]]]:
    """Every dictionary with arrays under dotted names, and where it lies."""
    names = dict(_items(content))
    if len(place) > MAX_DEPTH or not names:
        return
    if sum("." in name and is_tensor(value) for name, value in names.items()) > 1:
        yield place, names
        return
    for name, value in names.items():
        if name not in NO_WEIGHTS:
            yield from _dictionaries(value, (*place, name))


def _items(content: object) -> Iterable[tuple[str, object]]:
    """What a kind of dictionary holds under names, or a list under numbers."""
    if isinstance(content, Opaque):
        content = content.items
    if isinstance(content, list | tuple):
        return ((str(number), value) for number, value in enumerate(content))
    pairs = content.items() if isinstance(content, Mapping) else ()
    return ((name, value) for name, value in pairs if isinstance(name, str))


def _unwrapped(place: tuple[str, ...], names: Mapping[str, object]) -> StateDict:
    values: dict[str, object] = {}
    own: dict[str, str] = {}
    counters = []
    for name, value in names.items():
        short = ".".join(without_wrappers(name.split(".")))
        if _is_counter(short, value):
            counters.append(name)
            continue
        if short in own:
            raise InputError(
                f"it has both '{shown(own[short])}' and '{shown(name)}', which mean the same array; remove one of them"
            )
        values[short], own[short] = value, name
    return StateDict(place, values, own, tuple(counters))


def without_wrappers(parts: Iterable[str]) -> list[str]:
    """The parts of a name that are no wrappers."""
    return [part for part in parts if not WRAPPER.fullmatch(part)]


def _is_counter(name: str, value: object) -> bool:
    return is_tensor(value) and math.prod(value.shape) == 1 and name.split(".")[-1] in COUNTERS


def _contents(content: object) -> str:
    """What a checkpoint without weights holds instead, and what to do."""
    for place, value in walk(content):
        if isinstance(value, Opaque) and isinstance(value.state, dict) and "_modules" in value.state:
            return (
                f"'{place_name(place)}' is a pickled module of class {shown(value.name)}; load it with PyTorch where "
                "its code is, and save its state_dict()"
            )
        if isinstance(value, Opaque) and value.name.endswith(DISTRIBUTED):
            return f"'{place_name(place)}' is {what_is(value)}"
    if isinstance(content, Mapping):
        keys = [shown(str(name)) for name in list(content)[:6]]
        return f"its keys are {', '.join(keys)}" if keys else "it is an empty dictionary"
    return f"it holds {'a single array' if is_tensor(content) else what_is(content)}"
