"""Entries of a zip archive as storages: read where they lie, each checked against its CRC-32 when first read."""

import dataclasses
import struct
import zipfile
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mim_jax.errors import InputError
from mim_jax.weights.files.tensors import FileStorage, shown

PIECE = 1 << 20
LARGEST_RATIO = 100  # of inflated to stored bytes; weights never come near it
ALWAYS_ALLOWED = 64 * PIECE  # inflated bytes that need no such ratio

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 1

# What `zipfile` raises for archives that are none.
_DAMAGE = (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, LookupError, OverflowError, struct.error)


@dataclasses.dataclass(eq=False)
class ZipEntry(FileStorage):
    """An entry; `size` counts its bytes when inflated.

    Attributes:
        stored: bytes that it takes in the file.
        checksum: CRC-32 of its content.
        deflated: whether it is compressed.
        checked: whether it has been read as a whole and found sound.
    """

    stored: int = 0
    checksum: int = 0
    deflated: bool = False
    checked: bool = False

    def read(self, begin: int, end: int) -> UInt8[np.ndarray, " bytes"]:
        """Bytes `begin` to `end` as uint8; raises InputError if the entry is damaged anywhere."""
        if self.deflated:
            return self._inflated(begin, end)
        data = super().read(begin, end)
        if not self.checked:
            whole = len(data) == self.size
            self._check(self.size, zlib.crc32(data.data) if whole else self._checksum())
        return data

    def _inflated(self, begin: int, end: int) -> UInt8[np.ndarray, " bytes"]:
        """Bytes `begin` to `end` out of one pass over a compressed entry, no more of which is ever held."""
        data, position, checksum = np.empty(end - begin, np.uint8), 0, 0
        for piece in self._pieces():
            checksum = zlib.crc32(piece, checksum)
            wanted = piece[max(begin - position, 0) : max(end - position, 0)]
            start = max(position - begin, 0)
            data[start : start + len(wanted)] = np.frombuffer(wanted, np.uint8)
            position += len(piece)
            if position > self.size:
                break
        self._check(position, checksum)
        return data

    def _checksum(self) -> int:
        checksum = 0
        for piece in self._pieces():
            checksum = zlib.crc32(piece, checksum)
        return checksum

    def _check(self, size: int, checksum: int) -> None:
        if (size, checksum) != (self.size, self.checksum):
            raise InputError(f"{self.path} is damaged: {self.name} does not match its checksum; get the file again")
        self.checked = True

    def first(self, count: int) -> bytes:
        """The first bytes, not checked."""
        found = b""
        for piece in self._pieces():
            found += piece
            if len(found) >= count:
                break
        return found[:count]

    def _pieces(self) -> Iterator[bytes]:
        raw = (super(ZipEntry, self).read(at, min(at + PIECE, self.stored)) for at in range(0, self.stored, PIECE))
        return self._inflate(raw) if self.deflated else (piece.tobytes() for piece in raw)

    def _inflate(self, raw: Iterator[np.ndarray]) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for piece in raw:
                left = piece.tobytes()
                while left:
                    yield inflater.decompress(left, PIECE)
                    left = inflater.unconsumed_tail
            yield inflater.flush()
        except zlib.error as error:
            raise InputError(f"{self.path} is damaged: {self.name} cannot be inflated; get the file again") from error


def zip_entries(path: Path) -> dict[str, ZipEntry]:
    """The entries of an archive by name; nothing is unpacked.

    Raises InputError for an archive that is cut off or damaged, has a name twice, or is encrypted or compressed in a
    way that weights never are.
    """
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            size = path.stat().st_size
            entries = {info.filename: _entry(path, info, _data_offset(file, info), size) for info in infos}
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(f"{path} is a damaged or cut-off zip archive: get the file again") from error
    if len(entries) != len(infos):
        raise InputError(f"{path} is refused: it has two entries of one name, and it is not clear which is meant")
    return entries


def _data_offset(file: BufferedIOBase, info: zipfile.ZipInfo) -> int:
    """Where an entry's data begin, behind the header in front of them."""
    file.seek(info.header_offset)
    magic, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if magic != b"PK\3\4":
        raise zipfile.BadZipFile("no entry where the directory says")
    return info.header_offset + _LOCAL_HEADER.size + name + extra


def _entry(path: Path, info: zipfile.ZipInfo, offset: int, file_size: int) -> ZipEntry:
    name, deflated = shown(info.filename), info.compress_type == zipfile.ZIP_DEFLATED
    if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{path} is refused: {name} is encrypted or oddly compressed; unpack and save anew")
    if offset + info.compress_size > file_size or (not deflated and info.compress_size != info.file_size):
        raise zipfile.BadZipFile("an entry that the file is too short for")
    if info.file_size > max(ALWAYS_ALLOWED, LARGEST_RATIO * info.compress_size):
        raise InputError(
            f"{path} is refused: {name} would inflate from {info.compress_size} to {info.file_size} bytes, "
            f"as weights never do; get the file again"
        )
    return ZipEntry(path, name, info.file_size, offset, info.compress_size, info.CRC, deflated)
