"""The loop, with a state that is only a number."""

import contextlib
import math

import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.training.loop import Every, Profile, Training, train
from mim_jax.training.state import TrainState
from mim_jax.training.throughput import Throughput


class Recorder:
    """Counts what the loop does."""

    def __init__(self, bad_step=0):
        self.bad_step, self.saved, self.written, self.called, self.closed = bad_step, [], [], [], False

    def step(self, state, batch):
        step = int(state.step) + 1
        loss = math.nan if step == self.bad_step else float(batch)
        return state.replace(step=step), {"loss": jnp.float32(loss)}

    def batches(self, start, stop):
        try:
            yield from range(start, stop)
        finally:
            self.closed = True

    def training(self, **options):
        throughput = Throughput(flops_per_image=1.0, batch_size=1, device_count=1, peak_flops=1.0)
        return Training(
            **{
                "total_steps": 10,
                "step": self.step,
                "batches": self.batches,
                "describe_batch": lambda step: f"images of {step}",
                "save": lambda step, state, values: self.saved.append((step, values)),
                "last_good": lambda step: f"nothing before {step}",
                "write": lambda step, values: self.written.append((step, values)),
                "throughput": throughput,
                "log_every": 4,
                "save_every": 5,
                "active": False,
            }
            | options
        )


def start(step=0):
    return TrainState(step, None, None)


def test_records_saves_and_extras_come_when_due():
    recorder = Recorder()

    def extra(step, state):
        recorder.called.append((step, state.step))
        return {"extra": float(step)}

    train(start(), recorder.training(extras=[Every(3, extra), Every(0, extra)]))
    assert recorder.called == [(3, 3), (6, 6), (9, 9), (10, 10)]
    assert [step for step, _ in recorder.saved] == [5, 10]
    assert [step for step, _ in recorder.written] == [3, 4, 5, 6, 8, 9, 10]
    assert all(values["train/loss"] == step - 1 for step, values in recorder.written)
    assert dict(recorder.saved)[10]["extra"] == 10.0
    assert recorder.closed


def test_goes_on_from_the_state():
    recorder = Recorder()
    train(start(7), recorder.training())
    assert [values["train/loss"] for _, values in recorder.written] == [7, 9]


def test_finished_state_is_returned_untouched():
    recorder = Recorder()
    assert train(start(10), recorder.training()).step == 10
    assert recorder.written == recorder.saved == []


@pytest.mark.parametrize("bad_step", [1, 4, 5, 10])
def test_loss_that_is_not_finite_is_found_before_anything_is_saved(bad_step):
    recorder = Recorder(bad_step)
    with pytest.raises(
        InputError, match=f"diverged at step {bad_step} .*nothing before {bad_step}.*images of {bad_step - 1};"
    ):
        train(start(), recorder.training())
    assert all(step < bad_step for step, _ in recorder.saved)
    assert recorder.closed


def test_profile_covers_its_window(tmp_path, monkeypatch):
    events = []

    @contextlib.contextmanager
    def trace(folder):
        events.append(("start", len(recorder.steps)))
        yield
        events.append(("stop", len(recorder.steps)))

    recorder = Recorder()
    recorder.steps = []
    plain = recorder.step
    recorder.step = lambda state, batch: (recorder.steps.append(batch), plain(state, batch))[1]
    monkeypatch.setattr("jax.profiler.trace", trace)
    train(start(), recorder.training(profile=Profile(tmp_path, 3, 5)))
    assert events == [("start", 2), ("stop", 5)]


def test_profile_is_written(tmp_path):
    train(start(), Recorder().training(profile=Profile(tmp_path, 2, 20)))
    assert list(tmp_path.rglob("*.xplane.pb"))


def test_batches_are_the_ones_of_the_steps():
    seen = []
    recorder = Recorder()
    plain = recorder.step
    recorder.step = lambda state, batch: (seen.append(batch), plain(state, batch))[1]
    train(start(2), recorder.training())
    assert np.array_equal(seen, range(2, 10))
