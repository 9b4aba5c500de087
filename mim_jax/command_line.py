"""How the commands end: a user's mistake, Ctrl-C and a closed pipe in one line at most, without a traceback."""

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Generator
from types import FrameType

from mim_jax.errors import InputError

MISTAKE, INTERRUPTED, CLOSED_PIPE = 2, 130, 141
"""Statuses of a process; the latter two are those that a shell gives after the signals SIGINT and SIGPIPE."""

NOTHING_WRITTEN = "interrupted; nothing was written"


@dataclasses.dataclass(frozen=True)
class _Leave:
    """A handler of Ctrl-C that ends the process at once with one line."""

    message: str

    def __call__(self, number: int, frame: FrameType | None) -> None:
        os.write(2, f"{self.message}\n".encode())
        os._exit(INTERRUPTED)


def leave_on_interrupt() -> None:
    """From now on Ctrl-C ends the process at once, for as long as nothing is written.

    While modules are imported an exception may come out of C code or be swallowed. Where Ctrl-C is ignored, as in a job
    in the background, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Leave(NOTHING_WRITTEN))


@contextlib.contextmanager
def interruptible() -> Generator[None]:
    """Inside, Ctrl-C raises KeyboardInterrupt, so that what is being written is tidied up; behind, it ends at once."""
    ours = isinstance(signal.getsignal(signal.SIGINT), _Leave)
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, _Leave("interrupted"))


def run_command(work: Callable[[], int], *, interrupted: str, closed_pipe: int = CLOSED_PIPE) -> int:
    """The status that a command ends with; `interrupted` is said after Ctrl-C, where `work` handles none itself."""
    try:
        try:
            return work()
        finally:
            sys.stdout.flush()
    except InputError as error:
        return tell_mistake(error)
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        with contextlib.suppress(OSError):  # what is still buffered must not fail once more at the end of the process
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return closed_pipe


def tell_mistake(message: object) -> int:
    """Prints what a user did wrong, on one line; returns the status for it."""
    print(f"error: {' '.join(str(message).splitlines())}", file=sys.stderr)
    return MISTAKE
