"""The training loop, the same for every objective."""

import collections
import contextlib
import dataclasses
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from mim_jax.errors import InputError
from mim_jax.training.interruption import Interruption
from mim_jax.training.progress import Progress
from mim_jax.training.state import Batch, TrainState
from mim_jax.training.throughput import Throughput

Values = dict[str, float]

STEPS_AHEAD = 2
"""How many steps may be under way on the devices before the host waits for the oldest."""


class Interrupted(Exception):
    """The run was asked to stop, and has saved its state."""


@dataclasses.dataclass(frozen=True)
class Every:
    """Something to do after every `steps` steps (0: never) and after the last one.

    `call(step, state)` may return values to log.
    """

    steps: int
    call: Callable[[int, TrainState], Values | None]

    def due(self, step: int, total_steps: int) -> bool:
        """Whether it is to be done after `step`."""
        return self.steps > 0 and (step % self.steps == 0 or step == total_steps)


@dataclasses.dataclass(frozen=True)
class Profile:
    """Where a trace of the steps `first` to `last` (counted from the start of the process) goes."""

    folder: Path
    first: int
    last: int


@dataclasses.dataclass(frozen=True)
class Training:
    """What the loop is given.

    Attributes:
        total_steps: length of the whole run.
        step: makes one update, `(state, batch) -> (state, metrics)`; may donate the state.
        batches: `(start, stop)` to an iterator over the batches of these steps, on the devices.
        describe_batch: words that name the images of the batch of a step (from 0), for error messages.
        save: writes `(step, state, values)` and returns before it is on disk.
        last_good: words that name the last checkpoint from before a step that diverged.
        write: records `(step, values)`.
        throughput: measures the speed.
        log_every: steps between two records.
        save_every: steps between two saves; 0 saves the last step only.
        extras: evaluations and pictures.
        profile: what to trace, if anything.
        active: whether this process shows progress.
    """

    total_steps: int
    step: Callable[[TrainState, Batch], tuple[TrainState, Mapping[str, Any]]]
    batches: Callable[[int, int], Generator[Batch]]
    describe_batch: Callable[[int], str]
    save: Callable[[int, TrainState, Values], None]
    last_good: Callable[[int], str]
    write: Callable[[int, Values], None]
    throughput: Throughput
    log_every: int
    save_every: int
    extras: Sequence[Every] = ()
    profile: Profile | None = None
    active: bool = True

    def saves(self, step: int) -> bool:
        """Whether the state is saved after `step`."""
        return step == self.total_steps or (self.save_every > 0 and step % self.save_every == 0)

    def reports(self, step: int) -> bool:
        """Whether anything is recorded, evaluated or saved after `step`."""
        due = (extra.due(step, self.total_steps) for extra in self.extras)
        return step % self.log_every == 0 or self.saves(step) or any(due)


def train(state: TrainState, training: Training) -> TrainState:
    """Trains from the state's step to the last one.

    Raises InputError if a loss is not finite, and Interrupted after SIGTERM or Ctrl-C, once the state is saved.
    """
    start, total = int(state.step), training.total_steps
    if start >= total:
        return state
    under_way: collections.deque = collections.deque()
    progress = Progress(total, start, active=training.active)
    batches = training.batches(start, total)
    with (
        contextlib.closing(progress),
        contextlib.closing(batches),
        Interruption() as interruption,
        contextlib.ExitStack() as trace,
    ):
        for step, batch in enumerate(batches, start + 1):
            _profile(training.profile, step - start, trace)
            state, metrics = training.step(state, batch)
            training.throughput.step()
            under_way.append((step, metrics))
            values = _finished(training, under_way, STEPS_AHEAD)
            stop = interruption.requested(step)
            if stop or training.reports(step):
                values = _finished(training, under_way, 0) | _speed(training.throughput)
                values |= _pause(training, step, state, values, stop)
                training.write(step, values)
            progress.update(step, values)
            if stop:
                raise Interrupted(f"stopped by {interruption.signal_name} after step {step} of {total}; it is saved")
    return state


def _finished(training: Training, under_way: collections.deque, ahead: int) -> Values:
    """Waits until at most `ahead` steps are under way; checks them and returns the values of the last one done."""
    values: Values = {}
    while len(under_way) > ahead:
        step, metrics = under_way.popleft()
        values = {f"train/{name}": float(value) for name, value in metrics.items()}
        if not all(map(math.isfinite, values.values())):
            shown = ", ".join(f"{name} {value}" for name, value in values.items())
            raise InputError(
                f"training diverged at step {step} ({shown}); {training.last_good(step)}; the batch was "
                f"{training.describe_batch(step - 1)}; lower the learning rate, clip the gradient, or check them"
            )
    return values


def _speed(throughput: Throughput) -> Values:
    return {f"speed/{name}": value for name, value in throughput.interval().items()}


def _pause(training: Training, step: int, state: TrainState, values: Values, stop: bool) -> Values:
    """Evaluations, pictures and a checkpoint, when they are due; time spent here is not training time."""
    found: Values = {}
    with training.throughput.paused():
        for extra in training.extras:
            if not stop and extra.due(step, training.total_steps):
                found |= extra.call(step, state) or {}
        if stop or training.saves(step):
            training.save(step, state, values | found)
    return found


def _profile(profile: Profile | None, step: int, trace: contextlib.ExitStack) -> None:
    if profile is not None and step == profile.first:
        trace.enter_context(jax.profiler.trace(str(profile.folder)))
    elif profile is not None and step == profile.last + 1:
        trace.pop_all().close()
