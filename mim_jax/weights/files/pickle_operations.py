"""What each operation of a pickle does: a table from its name to a short function on a stack."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mim_jax.weights.files.inert import Global, Opaque, check_key, new_object
from mim_jax.weights.files.pickle_machine import Machine
from mim_jax.weights.files.rebuilding import set_state

LONGEST_NAME = 256  # of a class or function
LARGEST_INTEGER_BITS = 8192
NEWEST_PROTOCOL = 5


def _ignore(machine: Machine, argument: object) -> None:
    """FRAME, and STOP, which the loop looks at itself."""


def _protocol(machine: Machine, version: int) -> None:
    if version > NEWEST_PROTOCOL:
        raise ValueError("an unknown protocol")


def _literal(machine: Machine, value: object) -> None:
    machine.push(value)


def _integer(machine: Machine, value: int) -> None:
    if value.bit_length() > LARGEST_INTEGER_BITS:
        raise ValueError("an enormous integer")
    machine.push(value)


def _always(make: Callable[[], Any]) -> Callable[[Machine, Any], None]:
    """Pushes a new value that is always the same."""
    return lambda machine, _: machine.push(make())


def _of_mark(make: Callable[[list], Any]) -> Callable[[Machine, Any], None]:
    """Pushes a container of what lies above the last mark."""
    return lambda machine, _: machine.push(make(machine.pop_to_mark()))


def _tuple_of(count: int) -> Callable[[Machine, Any], None]:
    return lambda machine, _: machine.push(tuple(machine.pop(count)))


def _mark(machine: Machine, _: None) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine, _: None) -> None:
    machine.stack.pop() if machine.stack else machine.pop_to_mark()


def _remember(machine: Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


def _memoize(machine: Machine, _: None) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _recall(machine: Machine, index: int) -> None:
    machine.push(machine.memo[index])


def _extend(target: object, values: list) -> None:
    known = target.values if isinstance(target, Opaque) else target
    if not isinstance(known, list):
        raise TypeError("no list")
    known.extend(values)


def _update(target: object, values: list) -> None:
    items = target.items if isinstance(target, Opaque) else target
    if not isinstance(items, dict) or len(values) % 2:
        raise TypeError("no dictionary")
    items.update(zip(map(check_key, values[::2]), values[1::2]))


def _pop_mark(machine: Machine, _: None) -> None:
    machine.pop_to_mark()


def _append(machine: Machine, _: None) -> None:
    _extend(machine.stack[-2], machine.pop(1))


def _appends(machine: Machine, _: None) -> None:
    values = machine.pop_to_mark()
    _extend(machine.stack[-1], values)


def _set_item(machine: Machine, _: None) -> None:
    values = machine.pop(2)
    _update(machine.stack[-1], values)


def _set_items(machine: Machine, _: None) -> None:
    values = machine.pop_to_mark()
    _update(machine.stack[-1], values)


def _add_items(machine: Machine, _: None) -> None:
    values = machine.pop_to_mark()
    if not isinstance(machine.stack[-1], set):
        raise TypeError("no set")
    machine.stack[-1].update(map(check_key, values))


def _dictionary(values: list) -> dict:
    result: dict = {}
    _update(result, values)
    return result


def _named(module: object, name: object) -> Global:
    if not (isinstance(module, str) and isinstance(name, str) and len(module) + len(name) <= LONGEST_NAME):
        raise TypeError("not the name of a class or function")
    return Global(module, name)


def _global(machine: Machine, names: tuple[str, str]) -> None:
    machine.push(_named(*names))


def _stack_global(machine: Machine, _: None) -> None:
    machine.push(_named(*machine.pop(2)))


def _reduce(machine: Machine, _: None) -> None:
    machine.push(machine.call(*machine.pop(2)))


def _new_object(machine: Machine, _: None) -> None:
    kind, arguments = machine.pop(2)
    machine.pay_for(arguments)
    machine.push(new_object(kind, *arguments))


def _new_object_with_names(machine: Machine, _: None) -> None:
    kind, arguments, names = machine.pop(3)
    machine.push(new_object(kind, arguments, names))


def _instance(machine: Machine, names: tuple[str, str]) -> None:
    machine.push(machine.call(_named(*names), machine.pop_to_mark()))


def _object(machine: Machine, _: None) -> None:
    kind, *arguments = machine.pop_to_mark()
    machine.push(machine.call(kind, arguments))


def _build(machine: Machine, _: None) -> None:
    target, state = machine.stack[-2:]
    machine.pop(1)
    if isinstance(target, np.ndarray):
        machine.pay_for(state)
    set_state(target, state)


def _storage(machine: Machine, _: None) -> None:
    machine.push(machine.persistent(machine.stack.pop()))


def _each(names: str, action: Callable[[Machine, Any], None]) -> dict[str, Callable[[Machine, Any], None]]:
    return dict.fromkeys(names.split(), action)


# Left out, and so refused: text of Python 2 in protocol 0, textual persistent ids, extensions, buffers kept elsewhere.
OPERATIONS: dict[str, Callable[[Machine, Any], None]] = {
    **_each("FRAME STOP", _ignore),
    "PROTO": _protocol,
    **_each("INT BININT BININT1 BININT2 LONG LONG1 LONG4", _integer),
    **_each("FLOAT BINFLOAT UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8", _literal),
    **_each("SHORT_BINSTRING BINSTRING SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8", _literal),
    "NONE": _always(lambda: None),
    "NEWTRUE": _always(lambda: True),
    "NEWFALSE": _always(lambda: False),
    "EMPTY_LIST": _always(list),
    "EMPTY_TUPLE": _always(tuple),
    "EMPTY_DICT": _always(dict),
    "EMPTY_SET": _always(set),
    "LIST": _of_mark(list),
    "TUPLE": _of_mark(tuple),
    "DICT": _of_mark(_dictionary),
    "FROZENSET": _of_mark(lambda values: frozenset(map(check_key, values))),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    **_each("PUT BINPUT LONG_BINPUT", _remember),
    "MEMOIZE": _memoize,
    **_each("GET BINGET LONG_BINGET", _recall),
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "ADDITEMS": _add_items,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "INST": _instance,
    "OBJ": _object,
    "NEWOBJ": _new_object,
    "NEWOBJ_EX": _new_object_with_names,
    "BUILD": _build,
    "BINPERSID": _storage,
}
