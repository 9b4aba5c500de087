"""The one exception for mistakes in what a user gave, and sentences that several places say."""

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

LIKE = 0.6
"""How alike a name must be to be offered, from 0 to 1."""
ABBREVIATED = 0.9
"""How alike a word is to the one that it begins, or to words whose initials it is."""
FURTHER_WORD = 0.02
"""What every word costs that a known name has beside those that were meant."""


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
    near = ranked(name, known)
    return f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known) or 'none'}"


def ranked(name: str, known: Iterable[str]) -> list[str]:
    """Those of the known names that may be meant, the likeliest first; of equals the one that was known first."""
    likely = {other: likeness(name, other) for other in known}
    return sorted((other for other in likely if likely[other] >= LIKE), key=lambda other: -likely[other])


def likeness(name: str, known: str) -> float:
    """How likely a known name is the one that is meant, from 0 to 1; case and what joins the words do not count.

    A name is compared as a whole with every run of words of the known one, and word by word, where the last counts
    twice: what a name ends in says what it is (`learningrate` is rather `base_learning_rate` than
    `learning_rate_rule`, and `num_epochs` rather `epochs` than `num_heads`).
    """
    given, words = _words(name), _words(known)
    if not given or not words:
        return 0.0
    weights = [1] * (len(given) - 1) + [2]
    by_word = sum(weight * _best_run(word, words) for word, weight in zip(given, weights)) / sum(weights)
    beyond = abs(len(words) - len(given))  # `mask_ratio` is not as good a guess for `ratio` as `ratio` is
    return max(_best_run("".join(given), words), by_word - FURTHER_WORD * beyond)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+|[0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())


def _best_run(text: str, words: list[str]) -> float:
    return max(_as_run(text, words[start:stop], len(words) - stop, start) for start, stop in _runs(len(words)))


def _runs(count: int) -> Iterator[tuple[int, int]]:
    return ((start, stop) for start in range(count) for stop in range(start + 1, count + 1))


def _as_run(text: str, run: list[str], after: int, before: int) -> float:
    """How well a text stands for a run of words; words behind it cost twice what words before it do."""
    joined = "".join(run)
    same = difflib.SequenceMatcher(None, text, joined, autojunk=False).ratio()
    initials = len(run) > 1 and text == "".join(word[0] for word in run)
    if initials or (len(text) > 2 and joined.startswith(text)):
        same = max(same, ABBREVIATED)
    return same - FURTHER_WORD * (before + 2 * after)
