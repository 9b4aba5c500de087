"""Tensors that stay in their file until they are read."""

import dataclasses
import math
from pathlib import Path
from typing import Protocol, runtime_checkable

import ml_dtypes
import numpy as np
from jaxtyping import UInt8

from mim_jax.errors import InputError, unreadable

MOST_AXES = 64  # NumPy's own limit
LARGEST_BYTES = 2**62
LARGEST_EXPANSION = 64 * 2**20  # bytes that a tensor which repeats elements may have beyond its storage

# NumPy's dtype by its name; those that NumPy lacks come from ml_dtypes.
DTYPES = {
    **{name: np.dtype(name) for name in ("float64", "float32", "float16", "complex64", "complex128", "bool")},
    **{f"{kind}{bits}": np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "float8_e8m0fnu": np.dtype(ml_dtypes.float8_e8m0fnu),
}


@runtime_checkable
class Storage(Protocol):
    """A run of `size` bytes."""

    size: int

    def read(self, begin: int, end: int) -> UInt8[np.ndarray, " bytes"]:
        """Bytes `begin` to `end` as uint8; raises InputError where the file does not hold what it should."""


@dataclasses.dataclass(eq=False)
class FileStorage:
    """A run of bytes in a file.

    Attributes:
        path: the file, opened anew for every read.
        name: how messages call this part of it.
        size: number of bytes.
        offset: where in the file it begins.
    """

    path: Path
    name: str
    size: int
    offset: int = 0

    def read(self, begin: int, end: int) -> UInt8[np.ndarray, " bytes"]:
        """Bytes `begin` to `end` as uint8; raises InputError if the file has become shorter or unreadable."""
        data = np.empty(end - begin, np.uint8)
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset + begin)
                count = file.readinto(data.data)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if count != len(data):
            raise InputError(f"{self.path} ends inside {self.name}: it was changed while in use, read it again")
        return data


@dataclasses.dataclass(eq=False)
class StoragePart:
    """A run of bytes inside another storage."""

    whole: Storage
    begin: int
    size: int

    def read(self, begin: int, end: int) -> UInt8[np.ndarray, " bytes"]:
        """Bytes `begin` to `end` of the part as uint8."""
        return self.whole.read(self.begin + begin, self.begin + end)


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor in a file; several may share a storage.

    Attributes:
        shape: sizes of the axes.
        dtype: of the array that `read` gives, in this machine's byte order.
        storage: the bytes it lies in.
        strides: steps of the axes, in elements.
        offset: its first element in the storage.
        swapped: whether the file has the other byte order.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    storage: Storage = dataclasses.field(repr=False)
    strides: tuple[int, ...]
    offset: int = 0
    swapped: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array when contiguous."""
        return self.size * self.dtype.itemsize

    def problem(self) -> str | None:
        """What makes this tensor impossible, as the end of a sentence about it; None for a sound one."""
        if len(self.shape) > MOST_AXES or len(self.shape) != len(self.strides):
            return f"has {len(self.shape)} sizes and {len(self.strides)} strides"
        if min((self.offset, *self.shape, *self.strides)) < 0:
            return "has a negative size, stride or offset"
        if math.prod(max(size, 1) for size in self.shape) * self.dtype.itemsize > LARGEST_BYTES:
            return "is larger than any file"
        if self.size and self._end() > self.storage.size:
            return f"reaches past the {self.storage.size} bytes of its storage"
        if self.nbytes > self.storage.size + LARGEST_EXPANSION:
            return f"repeats the {self.storage.size} bytes of its storage into {self.nbytes}"
        return None

    def read(self) -> np.ndarray:
        """The values, read now and held nowhere else.

        Raises InputError for a tensor that cannot be and for bytes that do not match their checksum.
        """
        if problem := self.problem():
            raise InputError(f"a tensor {problem}: the checkpoint is damaged, get it again")
        if not self.size:
            return np.empty(self.shape, self.dtype)
        item = self.dtype.itemsize
        data = self.storage.read(self.offset * item, self._end())
        values = _swap(data, self.dtype) if self.swapped else data
        return np.ndarray(self.shape, self.dtype, values, strides=[stride * item for stride in self.strides])

    def _end(self) -> int:
        """Byte of the storage after the last element."""
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))
        return (last + 1) * self.dtype.itemsize


def contiguous(shape: tuple[int, ...], dtype: np.dtype, storage: Storage, swapped: bool = False) -> StoredTensor:
    """A tensor that fills a storage in C order."""
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return StoredTensor(shape, dtype, storage, strides, swapped=swapped)


def shown(value: object, longest: int = 80) -> str:
    """Text out of a file as it may stand in a message: printable, on one line, not too long."""
    text = ascii(str(value))[1:-1]
    return text if len(text) <= longest else f"{text[: longest // 2]}...{text[-longest // 2 :]}"


def _swap(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Bytes in the other order; the halves of a complex number swap each for itself."""
    word = dtype.itemsize // (2 if dtype.kind == "c" else 1)
    return data.view(f"u{word}").byteswap().view(np.uint8)
