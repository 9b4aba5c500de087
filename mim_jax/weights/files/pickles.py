"""Reads pickles as inert data: operations looked up in a table, and no other machinery.

Python's own `pickle` imports and calls what a file names. Here a name is a `Global`, a call is looked up in
`REBUILDS` or refused, an object of any class is an `Opaque`. Time and memory grow with the length of the pickle only.
"""

import pickletools
import struct
from collections.abc import Callable
from io import BufferedIOBase
from typing import Any

from mim_jax.errors import InputError
from mim_jax.weights.files.pickle_machine import Machine
from mim_jax.weights.files.pickle_operations import OPERATIONS

LONGEST_LINE = 1 << 16  # of the old textual operations
MOST_OPERATIONS = 2_000_000
OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
COPIES = 8  # how often, on average, calls may copy what the pickle holds

# What damaged bytes make the functions below raise; a TypeError may also come of what is sound but not known here.
_DAMAGE = (ValueError, LookupError, OverflowError, EOFError, struct.error)
_UNKNOWN = (TypeError, AttributeError)


class _Source:
    """The bytes of a pickle as `pickletools` reads them, never more than there are."""

    def __init__(self, file: BufferedIOBase, size: int) -> None:
        self.file, self.size = file, size

    def read(self, count: int) -> bytes:
        if count > self.size:
            raise EOFError("the pickle stops")
        self.size -= count
        return self.file.read(count)

    def readline(self) -> bytes:
        line = self.file.readline(min(LONGEST_LINE, self.size))
        self.size -= len(line)
        return line


def load_pickle(file: BufferedIOBase, size: int, where: str, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The object of the pickle that begins at the file's position; the position is then behind it.

    Args:
        file: open for reading.
        size: bytes that may be read of it.
        where: the file as messages call it.
        persistent: what stands for a persistent id (a storage of torch); without it there may be none.

    Raises InputError for a damaged pickle and for one that would call anything but `REBUILDS`.
    """
    source, machine = _Source(file, size), Machine(where, persistent or _no_storages, COPIES * size + MOST_OPERATIONS)
    name = "its first byte"
    try:
        for _ in range(MOST_OPERATIONS):
            name = "an unknown operation"
            opcode = OPCODES[source.read(1).decode("latin-1")]
            name, action = opcode.name, OPERATIONS.get(opcode.name, _not_supported)
            argument = _argument(opcode, source)
            if name == "STOP":
                return machine.stack.pop()
            action(machine, argument)
    except InputError:
        raise
    except _UNKNOWN as error:
        left = size - source.size
        raise InputError(
            f"{where} is refused: what its pickle does at byte {left} (in {name}) is not supported; save its "
            "state_dict alone with PyTorch"
        ) from error
    except _DAMAGE as error:
        left = size - source.size
        raise InputError(f"{where} is damaged at byte {left} of its pickle (in {name}): get the file again") from error
    raise InputError(f"{where} is refused: its pickle has more than {MOST_OPERATIONS} operations")


def _argument(opcode: pickletools.OpcodeInfo, source: _Source) -> Any:
    if opcode.name in ("GLOBAL", "INST"):  # two lines; pickletools would join them, and take backslashes for escapes
        return source.readline()[:-1].decode("utf-8"), source.readline()[:-1].decode("utf-8")
    if opcode.arg is None:
        return None
    reader: Callable[[Any], Any] = opcode.arg.reader
    return reader(source)


def _not_supported(machine: Machine, argument: object) -> None:
    raise TypeError("an operation that is left out")


def _no_storages(identity: object) -> Any:
    raise ValueError("a storage where there can be none")
