"""Files of `torch.save` before 0.1.10, without torch: a tar archive of four members, rows of pickles and numbers.

`sys_info` tells the byte order, `storages` holds storages with their lengths, `tensors` shapes and strides, `pickle`
the object, in which a persistent id is the number of a storage or tensor, or a class with its source.
"""

import dataclasses
import functools
import struct
import tarfile
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from mim_jax.errors import InputError
from mim_jax.weights.files.inert import integers
from mim_jax.weights.files.pickles import load_pickle
from mim_jax.weights.files.tensors import DTYPES, FileStorage, StoredTensor, shown
from mim_jax.weights.files.torch_file import weights_in
from mim_jax.weights.files.torch_objects import STORAGE_DTYPES, TypedStorage

MEMBERS = ("sys_info", "storages", "tensors", "pickle")
LONGEST_RECORD = 1024  # bytes of the pickle before a storage or tensor, so that many of them cost no more than one


@dataclasses.dataclass(eq=False)
class _Part:
    """A part of the file that is being read: what is left of it lies from byte `begin` to byte `end`."""

    file: BufferedIOBase
    path: Path
    begin: int
    end: int

    def skip(self, size: int) -> int:
        if not 0 <= size <= self.end - self.begin:
            raise ValueError("something reaches past the part of the file that it lies in")
        self.begin += size
        return self.begin - size  # where they lie

    def read(self, size: int) -> bytes:
        self.file.seek(self.skip(size))
        return self.file.read(size)

    def numbers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}q", self.read(8 * count))

    def storage(self, key: int, first: int, count: int, dtype: str) -> TypedStorage:
        self.skip(first * DTYPES[dtype].itemsize)
        begin = self.skip(count * DTYPES[dtype].itemsize)
        return TypedStorage(FileStorage(self.path, f"storage {shown(key)}", self.begin - begin, begin), DTYPES[dtype])

    def pickle(self, longest: int | None = None, persistent: Callable[[Any], Any] | None = None) -> Any:
        self.file.seek(self.begin)
        value = load_pickle(self.file, min(self.end - self.begin, longest or self.end), str(self.path), persistent)
        self.begin = self.file.tell()
        return value


def read_torch_tar(path: Path) -> Any:
    """What a tar file of torch holds: nested dicts, lists and tuples with `StoredTensor`s and `Opaque` objects.

    Raises InputError for other archives, pickled modules, damaged files, and pickles that would call anything.
    """
    try:
        with open(path, "rb") as file:
            return weights_in(_content(path, *_members(_Part(file, path, 0, path.stat().st_size))), path)
    except InputError:
        raise
    except (tarfile.TarError, struct.error, ValueError, TypeError, LookupError, AttributeError) as error:
        raise InputError(f"{path} is a damaged or cut-off tar archive: get the file again") from error


def _members(archive: _Part) -> list[_Part]:
    """The four members; `tarfile` reads one header at a time and does not follow it, since that may never end."""
    found: dict[str, _Part] = {}
    while len(found) <= len(MEMBERS) and any(block := archive.read(tarfile.BLOCKSIZE)):
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        member = dataclasses.replace(archive, begin=archive.skip(header.size), end=archive.begin)
        archive.skip(-header.size % tarfile.BLOCKSIZE)
        if header.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and found.setdefault(header.name, member) is not member:
            raise InputError(f"{archive.path} is refused: it has two members {shown(header.name)}; get the file again")
    if missing := [name for name in MEMBERS if name not in found]:
        raise InputError(f"{archive.path} is a tar archive without {missing[0]}, not of torch.save: unpack it first")
    return [found[name] for name in MEMBERS]


def _content(path: Path, system: _Part, storages: _Part, tensors: _Part, pickle: _Part) -> Any:
    if system.pickle().get("little_endian") is not True:
        raise InputError(f"{path} is refused: it was saved on a big-endian machine; save it anew with PyTorch")
    known = _tensors(tensors, _storages(storages))
    return pickle.pickle(persistent=functools.partial(_named, known))


def _named(known: dict[int, Any], identity: object) -> object:
    """What a persistent id stands for: a class, given with its source, or the tensor of a number."""
    if isinstance(identity, tuple):
        return identity[0]
    if not isinstance(identity, str):
        raise ValueError(f"a persistent id of type {type(identity).__name__}")
    return known[int(identity)]


def _storages(part: _Part) -> dict[int, TypedStorage]:
    """The storages by number: those that lie here one behind the other, and then parts of others."""
    found: dict[int, TypedStorage] = {}
    for _ in range(*integers((part.pickle(LONGEST_RECORD),))):
        key, _, kind = part.pickle(LONGEST_RECORD)
        found[key] = part.storage(*integers((key, 0, *part.numbers(1))), STORAGE_DTYPES[kind.name])
    for key, root, first, count in map(integers, part.pickle()):
        kept = found[root].storage
        assert isinstance(kept, FileStorage)  # as `part.storage` makes them
        whole = dataclasses.replace(part, begin=kept.offset, end=kept.offset + kept.size)
        found[key] = whole.storage(key, first, count, found[root].dtype.name)
    return found


def _tensors(part: _Part, storages: dict[int, TypedStorage]) -> dict[int, TypedStorage | StoredTensor]:
    """The storages, and the tensors by number: storage, then as numbers the count of axes, sizes, strides, offset."""
    found: dict[int, TypedStorage | StoredTensor] = {**storages}
    for _ in range(*integers((part.pickle(LONGEST_RECORD),))):
        key, storage = integers(part.pickle(LONGEST_RECORD)[:2])
        axes = part.numbers(1)[0] & 0xFFFFFFFF  # the upper half means nothing
        shape, strides, (offset,) = part.numbers(axes), part.numbers(axes), part.numbers(1)
        found[key] = StoredTensor(shape, storages[storage].dtype, storages[storage].storage, strides, offset)
    return found
