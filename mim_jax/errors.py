"""The one exception for mistakes in what a user gave, and sentences that several places say."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """Bad input: a wrong file, shape, key or number.

    The message is one sentence that says what is wrong, where, and what to do. The command line prints it
    without a traceback and exits with status 2; in Python it is an ordinary `ValueError`.
    """


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file or folder that the system does not let us read; what is in it may be sound."""
    return InputError(f"cannot read {path}: {error.strerror or error}; check its permissions and its disk")


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say after a name that is not known: the nearest one, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
