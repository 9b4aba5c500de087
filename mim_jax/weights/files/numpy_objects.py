"""NumPy's numbers and arrays out of pickles, rebuilt from their bytes.

Each function raises TypeError or ValueError for arguments that make no sense.
"""

import math
import re
from typing import Any

import numpy as np

from mim_jax.weights.files.inert import Opaque, integers

_NUMBERS_AND_TEXT = re.compile(r"[biufc](?:1|2|4|8|16)|[SU][1-9]\d{0,3}")  # without objects and records


def _dtype(value: Any) -> np.dtype | None:
    """NumPy's dtype of numbers or text that an opaque `numpy.dtype` stands for; None for another."""
    code, order = value.arguments[0], value.state[1] if value.state else "="
    return np.dtype(order + code) if order in ("<", ">", "=", "|") and _NUMBERS_AND_TEXT.fullmatch(code) else None


def binary(value: object) -> bytes:
    """Bytes, which Python 2 pickled as text."""
    if not isinstance(value, str | bytes | bytearray):
        raise TypeError("not bytes")
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


def scalar(kind: Any, value: object = b"") -> Any:
    """A NumPy number as a Python one."""
    dtype = _dtype(kind)
    return Opaque("numpy.generic", (kind, value)) if dtype is None else np.frombuffer(binary(value), dtype)[0].item()


def empty_array(kind: object, shape: object, code: object) -> np.ndarray:
    """The array that its state will fill."""
    return np.empty(0, np.int8)


def _set_state(array: np.ndarray, *state: Any) -> None:
    array.__setstate__((1, *state))


def set_array(array: np.ndarray, version: object, shape: Any, kind: Any, fortran: object, data: object) -> None:
    """Fills an array in place, since other objects may already hold it."""
    if array.shape != (0,):
        raise ValueError("an array that is filled already")
    dtype = _dtype(kind)
    if dtype is None:  # objects or records: kept inert, inside an array without axes
        _set_state(array, (), np.dtype(object), False, [Opaque("numpy.ndarray", (shape, kind, data))])
        return
    data = binary(data)
    if math.prod(integers(shape)) * dtype.itemsize != len(data) or min(shape, default=0) < 0:
        raise ValueError("an array of another size than its data")
    _set_state(array, shape, dtype, bool(fortran), data)


def array_from_buffer(data: object, kind: Any, shape: object, order: Any) -> Any:
    """An array of protocol 5."""
    dtype = _dtype(kind)
    if dtype is None:
        return Opaque("numpy.ndarray", (shape, kind, data))
    array = np.frombuffer(binary(data), dtype).reshape(integers(shape), order=order)
    return array.astype(dtype.newbyteorder("="))
