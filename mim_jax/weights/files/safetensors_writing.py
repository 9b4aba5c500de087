"""Writes files of the safetensors format, a few tensors at a time, each at its place in the file."""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from mim_jax.errors import InputError
from mim_jax.paths import local_path
from mim_jax.weights.arrangement import pieces
from mim_jax.weights.files.safetensors_file import CODES, LENGTH, METADATA

AT_ONCE = 2
"""Tensors that are made and written at the same time, however many cores there are, so that memory is bounded."""

Source = np.ndarray | Callable[[], np.ndarray]
TensorSource = tuple[DTypeLike, tuple[int, ...], Source]
"""dtype, shape, and an array or a function without arguments that makes it."""


class _Tensor(NamedTuple):
    """A tensor to write; `begin` and `end` are its bytes behind the header."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    source: Source
    begin: int
    end: int


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, TensorSource] | Iterable[tuple[str, TensorSource]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a file whole or not at all, never holding more than `AT_ONCE` tensors that are made by functions.

    Args:
        path: the file; its folder is made if need be.
        tensors: (dtype, shape, array or function that makes it) by name. Arrays are cast to the dtype; their axes may
            lie in any order. Functions are called from several threads.
        metadata: texts for the header.

    Raises ValueError for an array of another shape than was said or a type the format lacks, InputError for a disk
    that refuses, and whatever a function raises.
    """
    path = local_path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_in_place(beside, tensors, metadata)
        beside.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; make room or choose another folder"
        ) from error
    finally:
        beside.unlink(missing_ok=True) if path.parent.is_dir() else None


def write_in_place(
    path: Path,
    tensors: Mapping[str, TensorSource] | Iterable[tuple[str, TensorSource]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """`write_safetensors` for those who remove what is half-written themselves; raises OSError if the disk refuses."""
    placed = _placed(dict(tensors))
    header = _header(placed, metadata)
    path.write_bytes(header)
    with ThreadPoolExecutor(AT_ONCE) as pool:  # the first that fails calls off those that wait
        for _ in pool.map(lambda tensor: _write(path, len(header), tensor), placed):
            pass


def _placed(tensors: Mapping[str, TensorSource]) -> list[_Tensor]:
    """The tensors in the order of the file: wider types first, so that every one is aligned, then by name."""
    named = [(name, np.dtype(dtype), shape, source) for name, (dtype, shape, source) in tensors.items()]
    placed, end = [], 0
    for name, dtype, shape, source in sorted(named, key=lambda each: (-each[1].itemsize, each[0])):
        if dtype not in CODES or name == METADATA:
            raise ValueError(f"the format cannot hold {name} of type {dtype}")
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        placed.append(_Tensor(name, dtype, tuple(shape), source, begin, end))
    return placed


def _header(placed: list[_Tensor], metadata: Mapping[str, str] | None) -> bytes:
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    for tensor in placed:
        place = [tensor.begin, tensor.end]
        header[tensor.name] = {"dtype": CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return LENGTH.pack(len(text)) + text


def _write(path: Path, offset: int, tensor: _Tensor) -> None:
    """Puts a tensor where it belongs; opened anew, since each thread needs a position of its own."""
    array = np.asarray(tensor.source() if callable(tensor.source) else tensor.source)
    if array.shape != tensor.shape:
        raise ValueError(f"{tensor.name} has shape {array.shape} where {tensor.shape} was said")
    with open(path, "r+b") as file:
        file.seek(offset + tensor.begin)
        for piece in pieces(array, tensor.dtype):
            file.write(piece.view(np.uint8).data)
