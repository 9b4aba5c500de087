"""TFRecord files as random access: an index of where every record begins, kept on disk.

A record is its length (8 bytes, little endian), a checksum of the length (4), the data, a checksum of the data (4).
The checksums are not verified: a file must end exactly where its last record does, and images are checked by
decoding them.
"""

import hashlib
import logging
import os
import struct
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from mim_jax.errors import InputError

HEADER = struct.Struct("<QI")
OVERHEAD = HEADER.size + 4

logger = logging.getLogger(__name__)


def record_offsets(path: str) -> Int64[np.ndarray, " _"]:
    """Byte at which the data of each record begins, and where that of a further record would.

    Raises `InputError` for a file that does not end with a whole record.
    """
    size = os.path.getsize(path)
    offsets = [HEADER.size]
    with open(path, "rb", buffering=0) as file:
        while (begin := offsets[-1] - HEADER.size) < size:
            file.seek(begin)
            header = file.read(HEADER.size)
            length = HEADER.unpack(header)[0] if len(header) == HEADER.size else size
            if begin + length + OVERHEAD > size:
                raise InputError(
                    f"{path} is truncated or not a TFRecord file: "
                    f"record {len(offsets) - 1} would end after the file's {size} bytes; copy it again."
                )
            offsets.append(offsets[-1] + length + OVERHEAD)
    return np.array(offsets, np.int64)


def read_record(path: str, offsets: Int64[np.ndarray, " _"], number: int) -> bytes:
    """Data of one record of a file; raises `InputError` if the file has become shorter than its index."""
    begin = int(offsets[number])
    length = int(offsets[number + 1]) - begin - OVERHEAD
    with open(path, "rb", buffering=0) as file:
        file.seek(begin)
        data = file.read(length)
    if len(data) != length:
        raise InputError(f"{path} ends inside record {number}: it was changed while in use.")
    return data


def read_offsets(files: Sequence[str]) -> tuple[Int64[np.ndarray, " _"], ...]:
    """`record_offsets` of every file, from the index on disk where it fits the files' sizes and times.

    The index is written beside the files, or else under `$XDG_CACHE_HOME/mim_jax`; where neither can be written
    the files are scanned each time, and a warning says so.
    """
    stamps = np.array([[(stat := os.stat(file)).st_size, stat.st_mtime_ns] for file in files], np.int64)
    caches = _cache_paths(files)
    for cache in caches:
        if (known := _load(cache, stamps)) is not None:
            return known
    with ThreadPoolExecutor(16) as pool:
        offsets = tuple(pool.map(record_offsets, files))
    if not any(_save(cache, stamps, offsets) for cache in caches):
        logger.warning("Cannot keep the index of %d TFRecord files: %s cannot be written.", len(files), caches)
    return offsets


def _cache_paths(files: Sequence[str]) -> list[Path]:
    folder = Path(files[0]).absolute().parent
    names = "\n".join([str(folder), *map(os.path.basename, files)])
    name = f"mim_jax_index_{hashlib.sha256(os.fsencode(names)).hexdigest()[:16]}.npz"
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return [folder / name, home / "mim_jax" / name]


def _load(cache: Path, stamps: Int64[np.ndarray, "files 2"]) -> tuple[Int64[np.ndarray, " _"], ...] | None:
    try:
        with open(cache, "rb") as file, np.load(file) as saved:
            if not np.array_equal(saved["stamps"], stamps):
                return None
            return tuple(np.split(saved["offsets"], np.cumsum(saved["counts"])[:-1]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # missing or damaged: scan again
        return None


def _save(cache: Path, stamps: Int64[np.ndarray, "files 2"], offsets: tuple[Int64[np.ndarray, " _"], ...]) -> bool:
    counts = np.array([len(each) for each in offsets])
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.parent) as scratch:
            np.savez(index := Path(scratch) / cache.name, stamps=stamps, counts=counts, offsets=np.concatenate(offsets))
            os.replace(index, cache)  # whole or not at all, also when several processes write it
    except OSError:
        return False
    return True
