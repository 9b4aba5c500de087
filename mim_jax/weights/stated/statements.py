"""Statements about a model, with who made them."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from mim_jax.errors import InputError, nearest
from mim_jax.weights.stated.names import ACTIVATIONS
from mim_jax.weights.stated.values import KINDS, read, written

Configuration = Mapping[str, Any]
"""An object of JSON."""


@dataclasses.dataclass(frozen=True)
class Statements:
    """What is stated.

    Attributes:
        values: key of `values.KINDS` to its value.
        sources: the same key to who says so, for messages.
        notes: sentences about what was read and cannot be kept.
    """

    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    sources: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __or__(self, later: "Statements") -> "Statements":
        """Both; where they differ, the later one."""
        return Statements(self.values | later.values, self.sources | later.sources, self.notes + later.notes)


@dataclasses.dataclass
class Reader:
    """Takes values out of one file, each checked by the kind of what it states.

    Attributes:
        file: name of the file, for messages.
        family: the family of encoders that the weights have.
        settled: keys that the user states, which are not looked at.
    """

    file: str
    family: str
    settled: Collection[str] = ()
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    sources: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)

    def take(self, config: Configuration, table: Mapping[str, str], inside: str = "") -> None:
        """Takes what a table of their key to ours has; null states nothing, and neither does what is not asked."""
        known = KINDS[self.family]
        for theirs, ours in table.items():
            if ours in known and ours not in self.settled and config.get(theirs) is not None:
                name = f"{inside}{theirs}"
                self.put(ours, read(known[ours], config[theirs], name, self.file), name)

    def take_activation(self, config: Configuration, theirs: str, inside: str = "") -> None:
        """Takes the name of an activation; raises InputError for one that is not supported."""
        if "activation" in self.settled or config.get(theirs) is None:
            return
        name = config[theirs]
        if not isinstance(name, str) or name not in ACTIVATIONS:
            known = f"which is not supported; known are {', '.join(ACTIVATIONS)}"
            self.refuse(f"{inside}{theirs}", name, f"{known}; if it is one of them after all, --set activation=NAME")
        self.put("activation", ACTIVATIONS[name], f"{inside}{theirs}")

    def put(self, ours: str, value: object, theirs: str) -> None:
        """States a value that has been checked."""
        if ours not in self.settled:
            self.values[ours], self.sources[ours] = value, f"{theirs} of {self.file}"

    def refuse(self, theirs: str, value: object, why: str) -> None:
        """Raises the InputError for what cannot be kept."""
        raise InputError(f"{self.file} states {theirs}={shortened(value)}, {why}")

    @property
    def statements(self) -> Statements:
        """All that was taken."""
        return Statements(self.values, self.sources, tuple(self.notes))


def shortened(value: object, longest: int = 60) -> str:
    """A value of a file as it may stand in a sentence."""
    text = ascii(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


def of_user(stated: Mapping[str, Any], family: str) -> Statements:
    """What a user stated; raises InputError for a key that there is not, or a value that it cannot have."""
    known = KINDS[family]
    for key in stated:
        if key not in known:
            raise InputError(f"there is no '{key}' to set; {nearest(key, known)}")
    values = {key: read(known[key], value, key, "--set") for key, value in stated.items()}
    return Statements(values, {key: f"--set {key}" for key in values})


def as_stated(stated: Mapping[str, Any]) -> str:
    """What a user stated, as the end of a sentence about what does not fit; "" for nothing."""
    return f" (stated: {', '.join(f'{key}={written(value)}' for key, value in stated.items())})" if stated else ""
