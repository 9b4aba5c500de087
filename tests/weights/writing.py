"""Writes small torch files by hand, sound and otherwise."""

import struct
import zipfile
from pathlib import Path

import numpy as np

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
PROTOCOL = b"\x80\x02M\xe9\x03."
SYSTEM = b"\x80\x02}(X\x10\x00\x00\x00protocol_versionM\xe9\x03X\x0d\x00\x00\x00little_endian\x88u."

EMPTY_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    """Operations of a pickle that push a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value: int) -> bytes:
    """Operations that push an integer."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(data)) + data


def integers(values: tuple[int, ...]) -> bytes:
    """Operations that push a tuple of integers."""
    return b"(" + b"".join(map(integer, values)) + b"t"


def tensor(
    key: str = "0",
    count: int = 4,
    offset: int = 0,
    shape: tuple[int, ...] = (4,),
    strides: tuple[int, ...] = (1,),
    kind: str = "FloatStorage",
    legacy: bool = False,
) -> bytes:
    """Operations that push a tensor."""
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + integer(count)
    storage += (b"N" if legacy else b"") + b"tQ"
    view = integer(offset) + integers(shape) + integers(strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + view + b"\x89" + EMPTY_ORDERED_DICT + b"tR"


def state_dict(tensors: dict[str, bytes]) -> bytes:
    """A pickle of names and what pushes their values."""
    return b"\x80\x02}(" + b"".join(text(name) + value for name, value in tensors.items()) + b"u."


def write_zip(path: Path, pickle: bytes, storages: dict[str, bytes], compression: int = 0, **entries: bytes) -> Path:
    """A zip file of torch; `entries` are further ones."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle)
        for name, data in entries.items():
            archive.writestr(f"archive/{name}", data)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def write_legacy(path: Path, pickle: bytes, storages: dict[str, np.ndarray], system: bytes = SYSTEM) -> Path:
    """A file of the format before."""
    keys = b"\x80\x02](" + b"".join(map(text, storages)) + b"e."
    data = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    path.write_bytes(MAGIC + PROTOCOL + system + pickle + keys + data)
    return path


def dictionary(values: dict[str, bytes]) -> bytes:
    """Operations that push a dictionary of names and what pushes their values."""
    return b"}(" + b"".join(text(name) + value for name, value in values.items()) + b"u"


KINDS = {
    "float64": "Double", "float32": "Float", "float16": "Half", "int64": "Long", "int32": "Int", "uint8": "Byte",
    "bool": "Bool", "complex64": "ComplexFloat",
}  # fmt: skip
"""Type of an array to the beginning of the name of torch's storage for it."""

Tree = dict[str, "np.ndarray | Tree"]


def write_arrays(path: Path, content: Tree) -> Path:
    """A zip file of torch with arrays in nested dictionaries."""
    storages: dict[str, bytes] = {}

    def push(value: "np.ndarray | Tree") -> bytes:
        if isinstance(value, dict):
            return dictionary({name: push(each) for name, each in value.items()})
        key = str(len(storages))
        storages[key] = np.ascontiguousarray(value).tobytes()
        strides = tuple(int(np.prod(value.shape[axis + 1 :])) for axis in range(value.ndim))
        return tensor(key, value.size, 0, value.shape, strides, f"{KINDS[str(value.dtype)]}Storage")

    pickle = b"\x80\x02" + push(content) + b"."
    return write_zip(path, pickle, storages)
