"""NumPy's `.npz` archives as tensors that stay in the file; objects in them are refused."""

import re
from pathlib import Path

import numpy as np

from mim_jax.errors import InputError
from mim_jax.weights.files.content import checked
from mim_jax.weights.files.tensors import StoragePart, StoredTensor, shown
from mim_jax.weights.files.zip_entries import ZipEntry

LONGEST_HEADER = 10_000

_SUFFIX = ".npy"
_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|=][biufc]\d{1,2})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:\d{1,19},? ?)*)\),? ?\} *\n?"
)


def is_npz(entries: dict[str, ZipEntry]) -> bool:
    """Whether all an archive has is arrays."""
    return bool(entries) and all(name.endswith(_SUFFIX) for name in entries)


def read_npz(path: Path, entries: dict[str, ZipEntry]) -> dict[str, StoredTensor]:
    """The arrays by name; raises InputError naming one that is damaged or no plain array of numbers."""
    arrays = {name.removesuffix(_SUFFIX): _array(path, name, entry) for name, entry in entries.items()}
    return checked(arrays, path)


def _array(path: Path, name: str, entry: ZipEntry) -> StoredTensor:
    head = entry.first(12)
    count = 2 if head[6:7] == b"\1" else 4  # bytes of the header's length, from version 2 on
    begin = 8 + count + int.from_bytes(head[8 : 8 + count], "little")
    header = entry.first(min(begin, LONGEST_HEADER))[8 + count :]
    found = _HEADER.fullmatch(header)
    if head[:6] != b"\x93NUMPY" or begin > entry.size or not found:
        raise InputError(f"{path} is refused: {shown(name)} is no array of numbers; save it anew with np.savez")
    return _tensor(found, StoragePart(entry, begin, entry.size - begin), path, name)


def _tensor(header: re.Match, storage: StoragePart, path: Path, name: str) -> StoredTensor:
    shape = tuple(int(size) for size in header["shape"].replace(b",", b" ").split())
    try:
        dtype = np.dtype(header["dtype"].decode())
    except TypeError:
        raise InputError(f"{path} is refused: {shown(name)} has an unknown type; save it anew with np.savez") from None
    order = range(len(shape)) if header["fortran"] == b"True" else reversed(range(len(shape)))
    strides, step = [0] * len(shape), 1
    for axis in order:
        strides[axis], step = step, step * shape[axis]
    if step * dtype.itemsize != storage.size:
        raise InputError(f"{path} is damaged: the shape of {shown(name)} does not fit its data; get the file again")
    return StoredTensor(shape, dtype.newbyteorder("="), storage, tuple(strides), swapped=not dtype.isnative)
