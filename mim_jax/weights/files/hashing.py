"""SHA-256 of files, worked out while other things are done."""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mim_jax.errors import unreadable

PIECE = 1 << 24
"""Bytes that are hashed at once. Between two pieces the thread waits for the interpreter, which one that imports holds
for milliseconds."""


def sha256_of(files: Iterable[str | Path], stopped: Callable[[], bool] = lambda: False) -> str:
    """SHA-256, in hexadecimal, of files one behind the other; "" if it is stopped before the end.

    Raises InputError for a file that cannot be read.
    """
    digest, room = hashlib.sha256(), memoryview(bytearray(PIECE))
    for path in map(Path, files):
        try:
            with open(path, "rb", buffering=0) as file:
                while count := file.readinto(room):
                    if stopped():
                        return ""
                    digest.update(room[:count])
        except OSError as error:
            raise unreadable(path, error) from error
    return digest.hexdigest()


@contextlib.contextmanager
def hashing(files: Iterable[str | Path]) -> Generator[Callable[[], str]]:
    """Begins `sha256_of` in a thread; what it gives waits for the result. Leaving calls off what is not done yet."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(sha256_of, tuple(files), stop.is_set)
        try:
            yield digest.result
        finally:
            stop.set()
