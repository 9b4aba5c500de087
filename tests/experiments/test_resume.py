"""A run that is killed or stopped goes on as if nothing had happened."""

import signal

import jax
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.experiments import pretrain
from mim_jax.experiments.objectives import make_objective
from mim_jax.training.checkpoints import restore_parameters
from tests.experiments.runs import command, finish, losses, signal_after_step, start, tiny_settings


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    pretrain.run(tiny_settings(), workdir)
    return workdir


def final_parameters(workdir, settings=None):
    objective = make_objective(settings or tiny_settings())
    return restore_parameters(
        workdir / "checkpoints", jax.eval_shape(objective.init, jax.random.key(0)), key="parameters"
    )


def assert_same_run(workdir, expected):
    assert losses(workdir) == losses(expected)
    same = jax.tree.map(np.array_equal, final_parameters(workdir), final_parameters(expected))
    assert jax.tree.all(same)


@pytest.mark.slow
def test_killed_run_goes_on_bit_for_bit(uninterrupted, tmp_path):
    process = start(command(tmp_path))
    signal_after_step(process, tmp_path, 6, signal.SIGKILL)
    process.communicate()
    done = finish(command(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "goes on from step" in done.stdout or "starts" in done.stdout
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_run_saves_first_and_goes_on_from_there(uninterrupted, tmp_path, number):
    process = start(command(tmp_path, run__checkpoint_every=0))
    signal_after_step(process, tmp_path, 2, number)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert f"stopped by {number.name} after step" in errors and "start the same command again" in errors
    assert "Traceback" not in errors
    done = finish(command(tmp_path, run__checkpoint_every=0))
    assert done.returncode == 0 and "goes on from step" in done.stdout
    assert_same_run(tmp_path, uninterrupted)


def test_finished_run_is_not_trained_again(uninterrupted, capsys):
    before = losses(uninterrupted)
    pretrain.run(tiny_settings(), uninterrupted)
    assert "goes on from step 11" in capsys.readouterr().out
    assert losses(uninterrupted) == before


def test_scanned_run_goes_on_from_an_unrolled_checkpoint(uninterrupted, tmp_path):
    changes = {"efficiency__scan_blocks": True, "efficiency__remat": "dots"}
    pretrain.run(tiny_settings(**changes), tmp_path)
    scanned, plain = losses(tmp_path), losses(uninterrupted)
    np.testing.assert_allclose([scanned[s] for s in plain], list(plain.values()), rtol=1e-4)
    pretrain.run(tiny_settings(), tmp_path)  # an efficiency key may change; the checkpoint is read either way
    assert jax.tree.structure(final_parameters(tmp_path)) == jax.tree.structure(final_parameters(uninterrupted))


def test_other_settings_are_refused_with_the_differing_keys(uninterrupted):
    with pytest.raises(
        InputError, match=r"method.mask_ratio \(0.75 there, 0.5 here\), optimization.seed \(0 there, 1 here\)"
    ):
        pretrain.run(tiny_settings(method__mask_ratio=0.5, optimization__seed=1), uninterrupted)


def test_other_settings_are_taken_when_told(uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    pretrain.run(tiny_settings(), workdir)
    pretrain.run(tiny_settings(optimization__epochs=1.2, run__allow_config_change=True), workdir)
    assert max(losses(workdir)) == 13
