"""Writing a file so that a reader never sees half of it."""

import os
from pathlib import Path

from mim_jax.errors import InputError


def write_atomically(path: str | Path, content: bytes | str) -> Path:
    """Writes beside `path` and renames; makes the folder if need be. Returns the path.

    Raises InputError naming the file if the disk refuses.
    """
    path = Path(path)
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
