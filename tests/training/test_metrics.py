"""Metric files: complete lines, one line per step also after a kill, a rectangular table."""

import csv
import json
import math
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.training.metrics import open_writers, read_metrics


def open_files(workdir, resume_step=None):
    return open_writers(workdir, resume_step=resume_step, tensorboard=False)


def table(workdir):
    with (workdir / "metrics.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_lines_can_be_read_as_soon_as_they_are_written(tmp_path):
    with open_files(tmp_path / "run") as writers:
        writers.write(10, {"train/loss": 0.5, "learning_rate": np.float32(0.25)})
        (row,) = read_metrics(tmp_path / "run")
        assert row.pop("time") > 1.7e9
        assert row == {"step": 10, "train/loss": 0.5, "learning_rate": 0.25}
        assert table(tmp_path / "run")[0] == ["step", "time", "train/loss", "learning_rate"]
        assert table(tmp_path / "run")[1][2:] == ["0.5", "0.25"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, jnp.float32(jnp.nan)])
def test_what_is_not_finite_is_null(tmp_path, value):
    with open_files(tmp_path) as writers:
        writers.write(1, {"loss": value})
    assert read_metrics(tmp_path)[0]["loss"] is None
    assert table(tmp_path)[1][2] == ""
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_the_table_stays_rectangular_when_columns_appear_and_vanish(tmp_path):
    with open_files(tmp_path) as writers:
        writers.write(1, {"loss": 1.0})
        writers.write(2, {"knn": 0.5})
        writers.write(3, {"loss": 0.25, "name, with comma": 2})
        writers.write(4, {"loss": 0.125})
    header, *rows = table(tmp_path)
    assert header == ["step", "time", "loss", "knn", "name, with comma"]
    assert [[row[0], *row[2:]] for row in rows] == [
        ["1", "1.0", "", ""],
        ["2", "", "0.5", ""],
        ["3", "0.25", "", "2.0"],
        ["4", "0.125", "", ""],
    ]


def test_going_on_from_a_step_drops_what_came_after_it(tmp_path):
    with open_files(tmp_path) as writers:
        for step in (0, 5, 10, 15):
            writers.write(step, {"loss": step} | ({"late": 1} if step == 15 else {}))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "lo')  # torn by a kill
    assert [row["step"] for row in read_metrics(tmp_path)] == [0, 5, 10, 15]
    with open_files(tmp_path, resume_step=10) as writers:
        writers.write(15, {"loss": -15})
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [(0, 0), (5, 5), (10, 10), (15, -15)]
    assert [row[0] for row in table(tmp_path)] == ["step", "0", "5", "10", "15"]
    assert table(tmp_path)[0] == ["step", "time", "loss"]
    assert not list(tmp_path.glob("*.partial"))


def test_beginning_anew_drops_everything(tmp_path):
    with open_files(tmp_path) as writers:
        writers.write(0, {"loss": 1})
    with open_files(tmp_path):
        assert read_metrics(tmp_path) == [] and len(table(tmp_path)) == 1


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnot json\n{"step": 2}\n')
    with pytest.raises(InputError, match="Line 2 of .*metrics.jsonl is not JSON"):
        read_metrics(tmp_path)


def test_no_metrics_are_an_empty_list(tmp_path):
    assert read_metrics(tmp_path) == []


def test_processes_but_the_first_write_nothing(tmp_path):
    with open_writers(tmp_path / "run", resume_step=None, active=False) as writers:
        writers.write(1, {"loss": 1.0})
        writers.flush()
    assert not (tmp_path / "run").exists()


def test_a_work_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"Metrics cannot be written to {tmp_path}/file"):
        open_files(tmp_path / "file")


def test_a_full_disk_is_an_input_error(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    with open_files(tmp_path) as writers:
        monkeypatch.setattr(writers._writers[0], "write", full)
        with pytest.raises(InputError, match=f"Metrics cannot be written to {tmp_path}: No space left on device"):
            writers.write(1, {"loss": 1.0})


def tensorboard_events(workdir):
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):  # a record: length (8 bytes), its checksum (4), the event, its checksum (4)
            length = int.from_bytes(data[at : at + 8], "little")
            events.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += length + 16
    return events


def test_tensorboard_holds_scalars_pictures_and_where_to_go_on(tmp_path):
    with open_writers(tmp_path, resume_step=4) as writers:
        writers.write(5, {"train/loss": 0.5, "bad": math.nan})
        writers.write_image(5, "panel", np.full((4, 6, 3), 200, np.uint8))
        writers.flush()
    events = tensorboard_events(tmp_path)
    values = {value.tag: (event.step, value) for event in events for value in event.summary.value}
    assert values["train/loss"][0] == 5 and values["train/loss"][1].simple_value == 0.5
    assert (values["panel"][1].image.height, values["panel"][1].image.width) == (4, 6)
    assert set(values) == {"train/loss", "panel"}
    assert [event.step for event in events if event.session_log.status == event.session_log.START] == [5]


def test_wandb_that_is_not_installed_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"pip install mim_jax\[wandb\]"):
        open_writers(tmp_path, resume_step=None, wandb_project="mim")


def test_wandb_goes_on_with_the_same_run(tmp_path, monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("finish")
    )
    wandb = types.ModuleType("wandb")
    wandb.init, wandb.Image = lambda **options: calls.append(options) or run, np.shape
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for resume_step in (None, 3, None):
        options = {"resume_step": resume_step, "wandb_project": "mim", "tensorboard": False}
        with open_writers(tmp_path / "name", **options) as writers:
            writers.write(4, {"loss": 0.5, "bad": math.inf})
            writers.write_image(4, "panel", np.zeros((2, 2, 3), np.uint8))
    first, second, third = (call for call in calls if isinstance(call, dict))
    assert first == second and first["id"] != third["id"]
    assert (first["project"], first["name"]) == ("mim", "name")
    assert calls[1:4] == [(4, {"loss": 0.5}), (4, {"panel": (2, 2, 3)}), "finish"]
    assert json.loads((tmp_path / "name" / "metrics.jsonl").read_text())["bad"] is None
