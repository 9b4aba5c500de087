"""Finding the weights in what a checkpoint holds: which dictionary, which of several networks in it."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mim_jax.errors import InputError
from mim_jax.weights.files.tensors import StoredTensor, shown

WRAPPERS = ("module.", "_orig_mod.", "ema.")
"""What training loops and compilers put in front of every name."""

NETWORKS = ("backbone.", "base_encoder.", "momentum_encoder.", "target_encoder.", "model.")
"""What stands in front of the names of the network that is wanted, where there is more than one part."""

PREFERENCE = ("model", "state_dict", "teacher", "target_encoder", "backbone", "base_encoder")
"""Which of several is taken, unless one is selected: as the authors of each take theirs."""

MAX_DEPTH = 4


@dataclasses.dataclass(frozen=True)
class StateDict:
    """The arrays of one network.

    Attributes:
        place: where it lies in the file, such as "state_dict/base_encoder"; "" for the file itself.
        tensors: name, without what the place tells, to what lies there (arrays, if it is sound).
        beside: how many names of its dictionary belong to other parts, by their first component.
    """

    place: str
    tensors: dict[str, Any]
    beside: dict[str, int] = dataclasses.field(default_factory=dict)


def is_tensor(value: Any) -> bool:
    """Whether a value of a checkpoint is an array."""
    return isinstance(value, (StoredTensor, np.ndarray))


def find_state_dicts(content: Any) -> list[StateDict]:
    """All networks in a checkpoint, the preferred one first.

    Raises InputError if there is none, or if two names become one when wrappers are left out.
    """
    found = [network for place, names in _dictionaries(content) for network in _networks(place, names)]
    if not found:
        raise InputError(f"there are no weights in it: {_contents(content)}")
    return sorted(found, key=_rank)


def select_state_dict(found: list[StateDict], select: str) -> StateDict:
    """The first network whose place has all components of `select`; raises InputError if there is none."""
    wanted = [part for part in select.split("/") if part]
    for network in found:
        if all(part in network.place.split("/") for part in wanted):
            return network
    places = ", ".join(f"'{network.place}'" for network in found if network.place) or "only one network, without a name"
    raise InputError(f"there is no '{select}' in it; it has {places}")


def _rank(network: StateDict) -> tuple[int, ...]:
    last = network.place.split("/")
    ranks = [PREFERENCE.index(part) if part in PREFERENCE else len(PREFERENCE) for part in last]
    return tuple(ranks)


def _dictionaries(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every dictionary with arrays under dotted names, and where it lies."""
    if not isinstance(content, Mapping) or len(place) > MAX_DEPTH:
        return
    names = {name: value for name, value in content.items() if isinstance(name, str)}
    if sum("." in name and is_tensor(value) for name, value in names.items()) > 1:
        yield place, names
        return
    for name, value in names.items():
        if name not in ("optimizer", "scaler", "lr_scheduler"):
            yield from _dictionaries(value, (*place, name))


def _networks(place: tuple[str, ...], names: dict[str, Any]) -> Iterator[StateDict]:
    names = _unwrap(names)
    prefixes = [prefix for prefix in NETWORKS if any(name.startswith(prefix) for name in names)]
    if not prefixes:
        yield StateDict("/".join(place), names)
    for prefix in prefixes:
        inside = {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}
        beside = {name: value for name, value in names.items() if not name.startswith(prefix)}
        for network in _networks((*place, prefix.rstrip(".")), inside):
            yield dataclasses.replace(network, beside=_count(beside) | network.beside)


def _unwrap(names: dict[str, Any]) -> dict[str, Any]:
    for wrapper in WRAPPERS * 2:
        unwrapped: dict[str, Any] = {}
        for name, value in names.items():
            plain = name.removeprefix(wrapper)
            if plain in unwrapped:
                raise InputError(
                    f"it has both '{plain}' and '{wrapper}{plain}', and cannot mean both; remove one of them"
                )
            unwrapped[plain] = value
        names = unwrapped
    return names


def _count(names: Mapping[str, Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, value in names.items():
        if is_tensor(value):
            first = name.split(".")[0]
            counts[first] = counts.get(first, 0) + 1
    return counts


def _contents(content: Any) -> str:
    if isinstance(content, Mapping):
        keys = [shown(str(name)) for name in list(content)[:6]]
        return f"its keys are {', '.join(keys)}" if keys else "it is an empty dictionary"
    return f"it holds {'a single array' if is_tensor(content) else f'a {type(content).__name__}'}"
