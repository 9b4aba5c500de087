"""Files of the safetensors format, read strictly; `safetensors_writing` writes them."""

import json
import math
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from mim_jax.errors import InputError, unreadable
from mim_jax.paths import local_path
from mim_jax.weights.files.content import checked
from mim_jax.weights.files.tensors import DTYPES, MOST_AXES, FileStorage, StoredTensor, contiguous, shown

LONGEST_HEADER = 100_000_000  # as in the format's own library
METADATA = "__metadata__"

# The format's names of types.
_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
CODES = {DTYPES[name]: code for code, name in _NAMES.items()}
LENGTH = struct.Struct("<Q")
_FIELDS = {"dtype", "shape", "data_offsets"}


def read_safetensors(path: str | Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Tensors by name, in the order of the file, and the metadata.

    Raises InputError for a file with a damaged header, holes, overlaps, a tail, or unknown types, naming the tensor.
    """
    path = local_path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(LENGTH.size), "little")
            begin = LENGTH.size + length
            if length > LONGEST_HEADER or begin > size:
                raise _damaged(path, f"its header should have {length} bytes, and the file has {size}")
            header = _header(path, file.read(length))
    except OSError as error:
        raise unreadable(path, error) from error
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _damaged(path, "its metadata are no texts")
    places = {name: _place(path, name, entry, size - begin) for name, entry in header.items()}
    _check_cover(path, places, size - begin)
    return checked({name: _tensor(path, name, header[name], begin, *places[name]) for name in places}, path), metadata


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is a damaged safetensors file: {reason}; get it again")


def _header(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
            raise _damaged(path, f"its header has {shown(twice)} twice")
        return found

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "its header is not JSON") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no JSON object")
    return header


def _integers(values: object) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= MOST_AXES
        and all(type(value) is int and 0 <= value < 2**63 for value in values)
    )


def _place(path: Path, name: str, entry: object, size: int) -> tuple[int, int]:
    """Where a tensor's bytes begin and end behind the header."""
    if not isinstance(entry, dict) or set(entry) != _FIELDS or not _integers(entry["shape"]):
        raise _damaged(path, f"the entry of {shown(name)} is not a dtype, a shape and offsets")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _NAMES:
        raise InputError(f"{path} is refused: {shown(name)} has the type {shown(entry['dtype'])}, which is not known")
    offsets = entry["data_offsets"]
    if not _integers(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size:
        raise _damaged(path, f"the offsets of {shown(name)} do not lie in its {size} bytes of data")
    needed = math.prod(entry["shape"]) * DTYPES[_NAMES[entry["dtype"]]].itemsize
    if needed != offsets[1] - offsets[0]:
        raise _damaged(path, f"{shown(name)} has {offsets[1] - offsets[0]} bytes, and its shape needs another number")
    return offsets[0], offsets[1]


def _check_cover(path: Path, places: dict[str, tuple[int, int]], size: int) -> None:
    """Every byte belongs to one tensor."""
    end = 0
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        if place[0] != end:
            raise _damaged(path, f"there is a hole or an overlap before {shown(name)}")
        end = place[1]
    if end != size:
        raise _damaged(path, f"{size - end} bytes at its end belong to no tensor")


def _tensor(path: Path, name: str, entry: dict[str, Any], data: int, begin: int, end: int) -> StoredTensor:
    storage = FileStorage(path, shown(name), end - begin, data + begin)
    return contiguous(tuple(entry["shape"]), DTYPES[_NAMES[entry["dtype"]]], storage)
