"""Files of `torch.save`, without torch: zip archives (since 1.6) and the format before."""

import struct
from collections.abc import Callable
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any

from mim_jax.errors import InputError, unreadable
from mim_jax.weights.files.content import Content, checked
from mim_jax.weights.files.inert import Global, Opaque
from mim_jax.weights.files.pickles import load_pickle
from mim_jax.weights.files.tensors import DTYPES, FileStorage, shown
from mim_jax.weights.files.torch_objects import STORAGE_DTYPES, TypedStorage
from mim_jax.weights.files.zip_entries import ZipEntry

PICKLE = "data.pkl"
BYTE_ORDERS = {b"little": False, b"big": True}
MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How the old format begins, after the mark of the pickle's protocol."""

_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")
_LENGTH = struct.Struct("<q")
_SAVE = "load it with PyTorch where its code is, and save model.state_dict()"


def is_torch_zip(entries: dict[str, ZipEntry]) -> bool:
    """Whether an archive is one of torch's."""
    return any(name.split("/")[-1] == PICKLE for name in entries)


def is_torch_legacy(head: bytes) -> bool:
    """Whether a file that begins so is one of the old format."""
    return head[:1] == b"\x80" and MAGIC in head[:32]


def read_torch_zip(path: Path, entries: dict[str, ZipEntry]) -> Any:
    """What a zip file of torch holds: nested dicts, lists and tuples with `StoredTensor`s and `Opaque` objects.

    Raises InputError for TorchScript, pickled modules, damaged files, and pickles that would call anything.
    """
    pickles = [name for name in entries if name.split("/")[-1] == PICKLE]
    if len(pickles) != 1:
        raise InputError(f"{path} is refused: it has {len(pickles)} entries {PICKLE}, and torch.save writes one")
    folder = pickles[0].removesuffix(PICKLE)
    if f"{folder}constants.pkl" in entries:
        raise InputError(f"{path} is a TorchScript archive, a program with its weights: {_SAVE}")
    swapped = _is_swapped(path, entries.get(f"{folder}byteorder"))

    def storage(key: str, count: int, itemsize: int) -> ZipEntry:
        entry, size = entries.get(f"{folder}data/{key}"), count * itemsize
        if entry is None or entry.size != size:
            found = f"holds {entry.size} bytes" if entry else "is not in it"
            raise InputError(f"{path} is damaged: data/{shown(key)} should hold {size} bytes and {found}; get it again")
        return entry

    data = entries[pickles[0]].read(0, entries[pickles[0]].size).tobytes()
    return weights_in(load_pickle(BytesIO(data), len(data), str(path), _storages(path, storage, swapped)), path)


def read_torch_legacy(path: Path) -> Any:
    """What a file of the old format holds, likewise: five pickles, then every storage with its length before it."""
    found: dict[str, FileStorage] = {}
    counts: dict[str, int] = {}

    def storage(key: str, count: int, itemsize: int) -> FileStorage:
        known = found.setdefault(key, FileStorage(path, f"storage {shown(key)}", count * itemsize))
        if known.size != count * itemsize or counts.setdefault(key, count) != count:
            raise InputError(f"{path} is damaged: {known.name} has two sizes; get the file again")
        return known

    try:
        file_size = path.stat().st_size
        with open(path, "rb") as file:
            _, version, system = (_next_pickle(file, file_size, path) for _ in range(3))
            if not isinstance(system, dict) or system.get("little_endian") is not True:
                raise InputError(f"{path} is refused: it was saved on a big-endian machine; save it anew with PyTorch")
            content = _next_pickle(file, file_size, path, _storages(path, storage, swapped=False))
            keys = _next_pickle(file, file_size, path)
            texts = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
            if not texts or sorted(keys) != sorted(found):
                raise InputError(f"{path} is damaged: its storages are not those of its tensors; get the file again")
            _place_storages(file, file_size, [(found[key], counts[key]) for key in keys])
    except OSError as error:
        raise unreadable(path, error) from error
    return weights_in(content, path)


def _is_swapped(path: Path, entry: ZipEntry | None) -> bool:
    order = entry.read(0, entry.size).tobytes() if entry and entry.size < 16 else b"little" if entry is None else b""
    if order not in BYTE_ORDERS:
        raise InputError(f"{path} is refused: its byte order '{shown(order)}' is not known; save it anew with PyTorch")
    return BYTE_ORDERS[order]


def _storages(path: Path, find: Callable[[str, int, int], FileStorage], swapped: bool) -> Callable[[Any], Any]:
    """What answers torch's persistent ids: ("storage", class, key, device, elements[, view]).

    The old format has ("module", class, file, source) as well, in place of the class of a network.
    """

    def storage(identity: Any) -> TypedStorage | Global:
        if identity[0] == "module" and isinstance(identity[1], Global):
            return identity[1]
        mark, kind, key, _, count, *view = identity
        if mark != "storage" or not isinstance(kind, Global) or not isinstance(key, str) or type(count) is not int:
            raise TypeError("not a storage")
        if kind.module not in _STORAGE_MODULES or kind.name not in STORAGE_DTYPES or any(view):
            raise InputError(f"{path} is refused: storages as {shown(kind)} are not supported; save it as float32")
        dtype = DTYPES[STORAGE_DTYPES[kind.name]]
        return TypedStorage(find(key, count, dtype.itemsize), dtype, swapped)

    return storage


def _next_pickle(file: BufferedIOBase, size: int, path: Path, storages: Callable[[Any], Any] | None = None) -> Any:
    return load_pickle(file, size - file.tell(), str(path), storages)


def _place_storages(file: BufferedIOBase, file_size: int, storages: list[tuple[FileStorage, int]]) -> None:
    """Finds where the storages lie, one behind the other; raises InputError if their lengths are not as expected."""
    position = file.tell()
    for storage, count in storages:
        file.seek(position)
        length = file.read(_LENGTH.size)
        storage.offset = position + _LENGTH.size
        position = storage.offset + storage.size
        if position > file_size or length != _LENGTH.pack(count):
            raise InputError(f"{storage.path} is cut off or damaged at {storage.name}: get the file again")


def weights_in(content: Content, path: Path) -> Content:
    """`content` if it may hold weights as data; raises InputError for a whole module and for impossible tensors."""
    if isinstance(content, Opaque) and isinstance(content.state, dict) and "_modules" in content.state:
        raise InputError(f"{path} is a whole pickled module of class {shown(content.name)}, not its weights: {_SAVE}")
    return checked(content, path)
