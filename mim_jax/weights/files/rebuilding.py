"""The calls that a checkpoint's pickle may ask for, each answered by a function of our own.

Nothing here imports or runs what a pickle names: `REBUILDS` is looked up by exact module and name, and a class that
is not in it becomes an `Opaque`. A function raises TypeError or ValueError for arguments that make no sense.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from mim_jax.weights.files.inert import Global, Opaque, check_key, new_object
from mim_jax.weights.files.numpy_objects import array_from_buffer, binary, empty_array, scalar, set_array
from mim_jax.weights.files.tensors import StoredTensor
from mim_jax.weights.files.torch_objects import TENSORS, tensor_subclass


def dictionary(pairs: Any = ()) -> dict:
    """A dict from a dict or from pairs."""
    return {check_key(key): value for key, value in (pairs.items() if isinstance(pairs, dict) else pairs)}


def set_state(target: object, state: object) -> None:
    """Gives a rebuilt object its state; attributes of dicts and tensors are left out. Raises TypeError."""
    if isinstance(target, Opaque):
        target.state = state
    elif isinstance(target, np.ndarray) and isinstance(state, tuple) and len(state) == 5:
        set_array(target, *state)
    elif not isinstance(target, dict | StoredTensor):
        raise TypeError("no object with a state")


def _encoded(text: Any, encoding: object = "latin1") -> bytes:
    """Bytes, which protocols before 3 pickle as text."""
    if encoding not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):
        raise ValueError("an unusual encoding")
    return text.encode(encoding)


def _plain_set(values: Any = ()) -> set:
    return set(map(check_key, values))


def _plain_tuple(values: Any = ()) -> tuple:
    return tuple(values)


def _plain_list(values: Any = ()) -> list:
    return list(values)


def _plain_bytes() -> bytes:
    return b""


def _plain_bytearray(data: object = b"", encoding: object = "latin1") -> bytearray:
    return bytearray(_encoded(data, encoding) if isinstance(data, str) else binary(data))


def _reconstructed(kind: object, base: object, state: object = None) -> Opaque:
    """copyreg's way to make an object before its state is set."""
    return new_object(kind, state)


def _inert(name: str) -> Callable[..., Opaque]:
    return lambda *arguments: Opaque(name, arguments)


def _of(modules: str, functions: dict[str, Callable[..., Any]]) -> dict[Global, Callable[..., Any]]:
    return {Global(module, name): function for module in modules.split() for name, function in functions.items()}


_HARMLESS_NAMES = {
    "argparse": "Namespace",
    "builtins": "slice range complex",
    "__builtin__": "slice xrange complex",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "functools": "partial",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "torch": "device",
    "torch._utils": "_rebuild_qtensor _rebuild_sparse_tensor _rebuild_meta_tensor_no_storage",
    "torch.serialization": "_get_layout",
}
"""Classes that are called when unpickled, and that nobody needs in order to read weights."""

_HARMLESS = [(module, name) for module, names in _HARMLESS_NAMES.items() for name in names.split()]

REBUILDS: dict[Global, Callable[..., Any]] = {
    **_of("torch._utils", TENSORS),
    **_of("torch._tensor", {"_rebuild_from_type": tensor_subclass, "_rebuild_from_type_v2": tensor_subclass}),
    **_of("torch", {"Size": _plain_tuple}),
    **_of("collections", {"OrderedDict": dictionary, "Counter": dictionary}),
    **_of("collections", {"defaultdict": lambda factory=None, pairs=(): dictionary(pairs)}),
    **_of("builtins __builtin__", {"set": _plain_set, "frozenset": lambda values=(): frozenset(_plain_set(values))}),
    **_of("builtins __builtin__", {"dict": dictionary, "list": _plain_list, "tuple": _plain_tuple}),
    **_of("builtins __builtin__", {"bytes": _plain_bytes, "bytearray": _plain_bytearray}),
    **_of("_codecs", {"encode": _encoded}),
    **_of("copyreg copy_reg", {"_reconstructor": _reconstructed, "__newobj__": new_object}),
    **_of("numpy.core.multiarray numpy._core.multiarray", {"scalar": scalar, "_reconstruct": empty_array}),
    **_of("numpy.core.numeric numpy._core.numeric", {"_frombuffer": array_from_buffer}),
    **_of("numpy", {"dtype": _inert("numpy.dtype")}),
    **{Global(*each): _inert(".".join(each)) for each in _HARMLESS},
}
"""All that is answered, by exact name."""
