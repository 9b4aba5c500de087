"""What a person sees while a run goes on."""

import io

import pytest

from mim_jax.training.progress import Progress, progress_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_line_says_step_metrics_and_time_left():
    metrics = {
        "train/loss": 0.43123,
        "learning_rate": 1e-3,
        "images_per_second": 2130.4,
        "mfu": 0.412,
        "train/gradient_norm": 3.0,
    }
    line = progress_line(1200, 4000, metrics, 72.4)
    assert line == ("step 1200/4000  30%  loss 0.4312  lr 1.0e-03  2130 images/s  mfu 41.2%  ETA 0:01:12")


@pytest.mark.parametrize("seconds, text", [(None, "ETA ?"), (0.0, "ETA 0:00:00"), (90000.0, "ETA 1 day, 1:00:00")])
def test_time_left_is_written_as_hours(seconds, text):
    assert progress_line(1, 2, {}, seconds).endswith(text)


def test_a_log_gets_a_line_every_few_seconds_and_one_at_the_end():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(100, every_seconds=10.0, stream=stream, clock=clock)
    for step in range(1, 101):
        clock.now += 1.0
        progress.update(step, {"loss": 1.0})
    progress.close()
    steps = [int(line.split()[1].split("/")[0]) for line in stream.getvalue().splitlines()]
    assert steps == [1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100]


def test_time_left_is_reckoned_from_this_process_after_its_first_step():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(1000, start=900, every_seconds=0.0, stream=stream, clock=clock)
    clock.now += 3600.0  # the first step compiles
    progress.update(901)
    clock.now += 2.0
    progress.update(902)
    first, second = stream.getvalue().splitlines()
    assert first.endswith("ETA ?") and second.endswith("ETA 0:03:16")  # 98 steps of 2 seconds


def test_a_line_keeps_the_last_known_values():
    stream = io.StringIO()
    progress = Progress(100, every_seconds=0.0, stream=stream)
    progress.update(1, {"train/loss": 0.5, "speed/images_per_second": 10.0})
    progress.update(2, {"train/loss": 0.25})
    assert "loss 0.2500  10 images/s" in stream.getvalue().splitlines()[1]


def test_a_terminal_gets_a_bar_that_closes_its_line():
    stream, clock = Terminal(), Clock()
    progress = Progress(10, stream=stream, clock=clock)
    for step in range(1, 11):
        clock.now += 1.0
        progress.update(step, {"loss": 0.5})
    progress.close()
    text = stream.getvalue()
    assert "step 10/10  100%  loss 0.5000  ETA 0:00:00" in text and text.endswith("\n")
    assert "step 5/10" in text and "\r#" in text


def test_other_processes_show_nothing():
    stream = Terminal()
    progress = Progress(10, active=False, stream=stream)
    progress.update(10, {"loss": 0.5})
    progress.close()
    assert stream.getvalue() == ""
