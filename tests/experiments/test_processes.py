"""Two real processes over loopback train and analyse as one."""

import signal
import socket

import numpy as np
import pandas as pd
import pytest

from mim_jax.experiments import pretrain
from tests.experiments import test_analyze
from tests.experiments.encoders import write_encoder
from tests.experiments.runs import command, finish, losses, metrics, signal_after_step, start, tiny_settings

EVALUATED = {"evaluation__probe": True, "evaluation__shots": (1,), "evaluation__draws": 1, "run__panel_every": 11}


def start_two(arguments):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = [*arguments, f"--coordinator=127.0.0.1:{port}", "--processes=2"]
    return [start([*shared, f"--process={process}"]) for process in range(2)]


def ends(processes):
    outputs = [process.communicate(timeout=300) for process in processes]
    return [process.returncode for process in processes], [errors for _, errors in outputs]


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [{}, {"efficiency__mesh_fsdp": 2}], ids=["data", "fsdp"])
def test_two_processes_train_and_evaluate_as_one(tmp_path, mesh):
    pretrain.run(tiny_settings(), tmp_path / "one")
    codes, errors = ends(start_two(command(tmp_path / "two", **EVALUATED, **mesh)))
    assert codes == [0, 0], errors
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    np.testing.assert_allclose([two[step] for step in one], list(one.values()), rtol=1e-5)
    assert len(metrics(tmp_path / "two")) == 11
    for name in ("probes.csv", "report.html", "figures/panels_00000011.png"):
        assert (tmp_path / "two" / name).stat().st_size > 0


@pytest.mark.slow
def test_signal_to_one_process_stops_both_and_one_process_goes_on(tmp_path):
    pretrain.run(tiny_settings(optimization__epochs=40.0), tmp_path / "one")
    processes = start_two(command(tmp_path / "two", optimization__epochs=40.0))
    signal_after_step(processes[1], tmp_path / "two", 3, signal.SIGTERM)
    codes, errors = ends(processes)
    assert codes == [130, 130], errors
    pretrain.run(tiny_settings(optimization__epochs=40.0), tmp_path / "two")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    np.testing.assert_allclose([two[step] for step in one], list(one.values()), rtol=1e-3)


@pytest.mark.slow
def test_two_processes_analyse_as_one(tmp_path):
    encoder = write_encoder(tmp_path / "encoder")
    flags = ("--config.run.batch_size=24", "--config.representations.samples=('pooled','tokens')")
    done = finish(test_analyze.command(encoder, tmp_path / "one", *flags))
    assert done.returncode == 0, done.stderr
    codes, errors = ends(start_two(test_analyze.command(encoder, tmp_path / "two", *flags, "--config.run.pictures=1")))
    assert codes == [0, 0], errors
    tables = [pd.read_csv(tmp_path / name / "statistics.csv") for name in ("one", "two")]
    test_analyze.same_numbers(*tables, rtol=1e-4, atol=1e-5)
