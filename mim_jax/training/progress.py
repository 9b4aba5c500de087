"""Where a run is and when it will be done: a bar on a terminal, a plain line now and then in a log."""

import datetime
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from tqdm import tqdm

# The metrics that are shown, by the last part of their names, and how.
_SHOWN: dict[str, str] = {
    "loss": "loss {:.4f}",
    "learning_rate": "lr {:.1e}",
    "images_per_second": "{:.0f} images/s",
    "mfu": "mfu {:.1%}",
    "knn_accuracy": "k-NN {:.1%}",
}
_TERMINAL_SECONDS = 0.2


@runtime_checkable
class Stream(Protocol):
    """What text can be written to, such as `sys.stderr`."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> None: ...
    def isatty(self) -> bool: ...


class Progress:
    """Shows the step, the last known values of a few metrics and the time that is left.

    Args:
        total: steps of the whole run.
        start: steps taken before this process (a resumed run).
        every_seconds: time between two lines where `stream` is not a terminal.
        active: False shows nothing (all processes but the first).
        stream: where to.
        clock: seconds from any origin.
    """

    def __init__(
        self,
        total: int,
        start: int = 0,
        every_seconds: float | int = 10.0,
        *,
        active: bool = True,
        stream: Stream | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._active, self._clock = total, active, clock
        self._stream = sys.stderr if stream is None else stream
        terminal = active and self._stream.isatty()
        self._every = _TERMINAL_SECONDS if terminal else every_seconds
        self._bar = _terminal_bar(total, start, self._stream) if terminal else None
        self._first: tuple[int, float] | None = None  # step and time from which the remaining time is reckoned
        self._latest: dict[str, Any] = {}
        self._shown_at = -float("inf")

    def update(self, step: int, metrics: Mapping[str, Any] | None = None) -> None:
        """To be called after each step; shows a line when it is time to, or at the last step."""
        now = self._clock()
        self._first = self._first or (step, now)
        self._latest |= metrics or {}
        if self._active and (step >= self._total or now - self._shown_at >= self._every):
            self._show(step, now)

    def close(self) -> None:
        """Leaves the terminal on a new line."""
        if self._bar is not None:
            self._bar.close()

    def _show(self, step: int, now: float) -> None:
        self._shown_at = now
        line = progress_line(step, self._total, self._latest, self._seconds_left(step, now))
        if self._bar is None:
            print(line, file=self._stream, flush=True)
        else:
            self._bar.n = step
            self._bar.set_description_str(line)

    def _seconds_left(self, step: int, now: float) -> float | None:
        """By this process's steps after its first, which compiled."""
        first_step, first_time = self._first or (step, now)
        if step <= first_step:
            return None
        return (now - first_time) / (step - first_step) * (self._total - step)


def _terminal_bar(total: int, start: int, stream: Stream) -> tqdm:
    return tqdm(total=total, initial=start, file=stream, bar_format="{bar:16} {desc}", dynamic_ncols=True)


def progress_line(step: int, total: int, metrics: Mapping[str, Any], seconds_left: float | None) -> str:
    """One line such as `step 1200/4000  30%  loss 0.4312  ETA 0:01:12`."""
    last_parts = {name.rsplit("/", 1)[-1]: value for name, value in metrics.items()}
    shown = [form.format(float(last_parts[name])) for name, form in _SHOWN.items() if name in last_parts]
    eta = "ETA ?" if seconds_left is None else f"ETA {datetime.timedelta(seconds=round(max(seconds_left, 0.0)))}"
    return "  ".join([f"step {step}/{total}", f"{step / max(total, 1):.0%}", *shown, eta])
