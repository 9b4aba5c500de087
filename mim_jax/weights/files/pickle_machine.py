"""The stack of a pickle that is being read, and the one place where calls are allowed or refused."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from mim_jax.errors import InputError
from mim_jax.weights.files.inert import Global
from mim_jax.weights.files.rebuilding import REBUILDS
from mim_jax.weights.files.tensors import shown

# What functions of `REBUILDS` raise for arguments that make no sense to them.
_UNKNOWN = (TypeError, ValueError, LookupError, AttributeError, OverflowError)

_SIZED = (tuple, list, dict, set, frozenset, str, bytes, bytearray)


@dataclasses.dataclass(eq=False)
class Machine:
    """The state of a pickle that is being read; `marks` are the stacks below the last marks."""

    where: str
    persistent: Callable[[Any], Any]
    budget: int
    stack: list = dataclasses.field(default_factory=list)
    marks: list[list] = dataclasses.field(default_factory=list)
    memo: dict[int, Any] = dataclasses.field(default_factory=dict)

    def push(self, value: object) -> None:
        self.stack.append(value)  # looked up now: what made the value may have gone back to an earlier stack

    def pop(self, count: int) -> list:
        """The topmost values, the lowest first."""
        if count > len(self.stack):
            raise IndexError("an empty stack")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def pop_to_mark(self) -> list:
        values, self.stack = self.stack, self.marks.pop()
        return values

    def call(self, function: object, arguments: Any) -> Any:
        """What a call gives; raises InputError if it is not on the table."""
        name = function if isinstance(function, Global) else type(function).__name__
        if name not in REBUILDS:
            raise InputError(
                f"{self.where} is refused: it would call {shown(name)} when unpickled, and weights need no such "
                f"call; if you trust its source, save its state_dict alone with PyTorch"
            )
        self.pay_for(arguments)
        try:
            return REBUILDS[name](*arguments)
        except _UNKNOWN as error:
            raise InputError(
                f"{self.where} is refused: it makes {shown(name)} in a way that is not known here; save its state_dict "
                "alone with PyTorch"
            ) from error

    def pay_for(self, values: Sequence) -> None:
        """Counts what is copied, lest a pickle has the same things copied over and over; raises InputError."""
        self.budget -= 1 + len(values) + sum(len(each) for each in values if isinstance(each, _SIZED))
        if self.budget < 0:
            raise InputError(f"{self.where} is refused: its pickle asks for too much copying; save a state_dict")
