"""The one exception for mistakes in what a user gave, and the hint that goes with a wrong name."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: a wrong file, shape, key or number.

    The message is one sentence that says what is wrong, where, and what to do. The command line prints it
    without a traceback and exits with status 2; in Python it is an ordinary `ValueError`.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say after a name that is not known: the nearest one, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
