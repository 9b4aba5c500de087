"""Writing a file so that a reader never sees half of it, and arrays in such files."""

import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mim_jax.errors import InputError, unreadable
from mim_jax.paths import local_path


def write_atomically(path: str | Path, content: bytes | str) -> Path:
    """Writes beside `path` and renames; makes the folder if need be. Returns the path.

    Raises InputError naming the file if the disk refuses.
    """
    path = local_path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        return beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True) if path.parent.is_dir() else None
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; make room there or choose another folder"
        ) from error


def write_arrays(path: str | Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> Path:
    """Writes arrays by name into an npz file, complete or not at all. Returns the path."""
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return write_atomically(path, buffer.getvalue())


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """What `write_arrays` wrote; raises InputError if the file is missing, cannot be read, or is not whole."""
    path = local_path(path)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} cannot be read as arrays ({reason}); move it elsewhere, and it is computed again"
        ) from error
