"""Stopping a run at the end of a step when it is asked to: Ctrl-C, a scheduler's SIGTERM, a preemption."""

import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class Interruption:
    """While entered, SIGTERM and SIGINT (Ctrl-C) only ask the run to stop; a second SIGINT stops it at once.

    In a run of many processes SIGTERM is left to JAX, whose coordinator tells all processes of it and has them agree
    on a step that none has passed; SIGINT is handed on as SIGTERM. Outside the main thread, where Python allows no
    signal handlers, it leaves them alone.

    Attributes:
        signal_name: the signal that asked, such as "SIGTERM"; empty when none did.
    """

    def __init__(self) -> None:
        self.signal_name = ""
        self._interrupted = self._agreed = False
        self._many = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        self._many = jax.process_count() > 1
        if threading.current_thread() is threading.main_thread():
            ours = (signal.SIGINT,) if self._many else (signal.SIGINT, signal.SIGTERM)
            self._old = {number: signal.signal(number, self._receive) for number in ours}
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not installed from Python
        self._old = {}

    def requested(self, step: int) -> bool:
        """Whether to stop after `step`, the same in every process; to be asked after each step, by each of them."""
        if self._many and not self._agreed:
            self._agreed = multihost_utils.reached_preemption_sync_point(step)
            self.signal_name = self.signal_name or ("SIGTERM" if self._agreed else "")
        return self._agreed if self._many else bool(self.signal_name)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = self._interrupted or number == signal.SIGINT
        self.signal_name = signal.Signals(number).name
        if self._many:
            signal.raise_signal(signal.SIGTERM)
