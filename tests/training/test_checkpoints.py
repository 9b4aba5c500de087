"""Checkpoints: bit-exact, atomic, checked before they are read, and clear when the disk says no."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mim_jax.errors import InputError
from mim_jax.training import checkpoint_folders
from mim_jax.training.checkpoint_reading import orbax
from mim_jax.training.checkpoints import Checkpoints, restore_parameters

ROOT = Path(__file__).parents[2]


@flax.struct.dataclass
class State:
    step: Any
    parameters: Any
    optimizer: Any
    average: Any = None


def make_state(seed=0, width=5):
    parameters = {
        "head": {"kernel": jax.random.normal(jax.random.key(seed), (3, width)), "bias": jnp.ones(width, jnp.bfloat16)},
        "0": {"index": jnp.arange(7)},
    }
    trained = {"head": parameters["head"]}
    return State(jnp.int32(seed), parameters, optax.chain(optax.clip(1.0), optax.adamw(1e-3)).init(trained))


def abstract(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def assert_identical(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for leaf, same in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert leaf.dtype == same.dtype and np.asarray(leaf).tobytes() == np.asarray(same).tobytes()


def run_script(name, *arguments, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, "-m", f"tests.training.{name}", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def test_every_leaf_comes_back_bit_for_bit_with_its_structure(tmp_path):
    state = make_state(3)
    state.parameters["head"]["kernel"] = state.parameters["head"]["kernel"].at[0, :3].set([jnp.nan, jnp.inf, -0.0])
    with Checkpoints(tmp_path / "new" / "checkpoints") as checkpoints:
        checkpoints.save(3, state, metadata={"seconds": 1.5})
        assert_identical(checkpoints.restore(abstract(state)), state)
        assert checkpoints.metadata() == {"seconds": 1.5}


@pytest.mark.parametrize("end", ["donated", "deleted"])
def test_state_may_be_given_up_as_soon_as_save_returns(tmp_path, end):
    overwrite = jax.jit(lambda state: jax.tree.map(lambda x: -x, state), donate_argnums=0)
    state = {"w": jax.random.normal(jax.random.key(0), (700, 700)), "n": jnp.arange(9)}
    before = jax.tree.map(lambda x: np.array(jnp.copy(x)), state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        if end == "donated":
            jax.block_until_ready(overwrite(state))
        else:
            jax.tree.map(lambda x: x.delete(), state)
        assert_identical(checkpoints.restore(abstract(before)), before)


def test_a_step_is_saved_only_once(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.zeros(3)})
        checkpoints.save(1, {"w": jnp.ones(3)})
        assert float(checkpoints.restore({"w": jax.ShapeDtypeStruct((3,), jnp.float32)})["w"].sum()) == 0


@pytest.mark.parametrize(
    "rule, kept",
    [
        ({"keep_last": 1}, [6]),
        ({"keep_last": 2}, [5, 6]),
        ({"keep_last": 1, "keep_every": 2}, [2, 4, 6]),
        ({"keep_last": 1, "best_metric": "accuracy"}, [2, 6]),
        ({"keep_last": 1, "best_metric": "accuracy", "best_mode": "min"}, [1, 6]),
    ],
)
def test_kept_steps_are_the_last_the_milestones_and_the_best(tmp_path, rule, kept):
    accuracy = {1: 0.1, 2: 0.9, 3: 0.5, 4: 0.9, 5: float("nan"), 6: 0.3}
    with Checkpoints(tmp_path, **rule) as checkpoints:
        for step, value in accuracy.items():
            checkpoints.save(step, {"w": jnp.zeros(1)}, metrics={"accuracy": value})
    reopened = Checkpoints(tmp_path, **rule)
    assert reopened.steps() == kept and reopened.latest == 6
    assert reopened.best == (kept[0] if "best_metric" in rule else None)
    assert sorted(os.listdir(tmp_path)) == [str(step) for step in kept]


def test_an_empty_folder_has_no_steps_and_says_so(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.steps() == [] and checkpoints.latest is None and checkpoints.best is None
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="There is no checkpoint in .*none"):
        checkpoints.restore({})
    with pytest.raises(InputError, match="There is no checkpoint 7"):
        checkpoints.restore({}, step=7)


def test_wrong_rules_are_refused(tmp_path):
    with pytest.raises(InputError, match="keep_last is 0"):
        Checkpoints(tmp_path, keep_last=0)


def test_discard_after_leaves_the_steps_a_run_goes_on_from(tmp_path):
    with Checkpoints(tmp_path, keep_last=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, {"w": jnp.full(2, step)})
        checkpoints.discard_after(1)
        checkpoints.save(2, {"w": jnp.full(2, 20)})
        assert checkpoints.steps() == [1, 2]
        assert int(checkpoints.restore({"w": jax.ShapeDtypeStruct((2,), jnp.int32)})["w"][0]) == 20


def test_part_of_a_state_is_read_without_the_rest(tmp_path):
    state = make_state(1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
    assert_identical(restore_parameters(tmp_path, abstract(state.parameters)), state.parameters)
    head = state.parameters["head"]
    assert_identical(restore_parameters(tmp_path, abstract(head), 1, key="parameters/head"), head)
    with pytest.raises(InputError, match="no part 'parameters/tail'"):
        restore_parameters(tmp_path, abstract(head), key="parameters/tail")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: make_state(1, width=6), r"head/kernel is float32\[3, 5\] there, float32\[3, 6\] here"),
        (lambda s: s.replace(step=jnp.float32(0)), r"step is int32\[\] there, float32\[\] here"),
        (lambda s: s.replace(average=s.parameters), r"average/0/index is absent there, int32\[7\] here"),
        (lambda s: s.replace(optimizer=()), r"optimizer/1/0/count is int32\[\] there, absent here"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_leaf(tmp_path, change, message):
    state = make_state(1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        with pytest.raises(InputError, match=message):
            checkpoints.restore(abstract(change(state)))
        with pytest.raises(InputError, match="does not fit"):
            restore_parameters(tmp_path, {"head": {"kernel": jax.ShapeDtypeStruct((3, 5), jnp.float32)}})


def test_a_long_list_of_misfits_is_cut(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, [jnp.zeros(2)] * 9)
        with pytest.raises(InputError, match="; 6 more. Use") as caught:
            checkpoints.restore([jax.ShapeDtypeStruct((3,), jnp.float32)] * 9)
    assert str(caught.value).count("float32[3] here") == 3


@pytest.mark.parametrize(
    "damage", ["_CHECKPOINT_METADATA", "state/_METADATA", "state/manifest.ocdbt", "state/ocdbt*/d/*"]
)
@pytest.mark.parametrize("how", ["deleted", "truncated"])
def test_a_step_that_cannot_be_read_is_named_with_the_one_before(tmp_path, damage, how):
    state = {"w": jax.random.normal(jax.random.key(0), (40, 40))}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.save(2, state)
    for path in (tmp_path / "2").glob(damage):
        path.unlink() if how == "deleted" else os.truncate(path, path.stat().st_size // 2)
    reopened = Checkpoints(tmp_path, best_metric="loss")
    damaged = f"Checkpoint {tmp_path}/2 cannot be read .*or move it out of this folder to go on from step 1"
    if (damage, how) == ("_CHECKPOINT_METADATA", "truncated"):  # holds what metadata() gives, nothing of the state
        with pytest.raises(InputError, match=damaged):
            reopened.metadata(2)
    else:
        with pytest.raises(InputError, match=damaged):
            reopened.restore(abstract(state))
    assert_identical(reopened.restore(abstract(state), step=1), state)
    reopened.save(3, state)  # an old step that cannot be read stops nothing
    reopened.save(4, state)
    assert reopened.steps()[-2:] == [3, 4]
    if damage == "_CHECKPOINT_METADATA":  # there its metric stands, so that it may be the best one
        assert (tmp_path / "2").is_dir()


def test_what_a_killed_run_left_is_ignored_and_then_removed(tmp_path):
    state = {"w": jnp.ones(4)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp")
    shutil.copytree(tmp_path / "1", tmp_path / "0.deleted")
    (tmp_path / "notes.txt").write_text("mine")
    reopened = Checkpoints(tmp_path)
    assert reopened.steps() == [1]
    reopened.save(2, state)
    reopened.close()
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "notes.txt"]


def test_a_kill_at_any_moment_leaves_whole_steps(tmp_path):
    for delay in (0.0, 0.02, 0.05):
        saver = run_script("checkpoint_saver", tmp_path)
        saver.stdout.readline()
        returned = int(saver.stdout.readline())
        time.sleep(delay)
        saver.send_signal(signal.SIGKILL)
        saver.communicate()
        checkpoints = Checkpoints(tmp_path)
        target = {"w": jax.ShapeDtypeStruct((500, 500), jnp.float32)}
        for step in checkpoints.steps():
            assert np.array_equal(checkpoints.restore(target, step)["w"], np.full((500, 500), step, np.float32))
        assert checkpoints.latest >= returned - 1


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() or not shutil.which("mount") or subprocess.run(command).returncode:
        pytest.skip("a small disk can be mounted only by root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_is_one_sentence_and_the_last_step_stays(small_disk):
    state = {"w": jax.random.normal(jax.random.key(0), (600, 500))}
    checkpoints = Checkpoints(small_disk)
    checkpoints.save(1, state)
    checkpoints.save(2, state)
    with pytest.raises(InputError, match=rf"{small_disk} \(No space left on device\); the last complete step is 1"):
        checkpoints.wait()
    assert_identical(checkpoints.restore(abstract(state)), state)
    small = {"w": jnp.zeros(10)}
    checkpoints.save(2, small)  # what the failed save left is gone
    assert checkpoints.latest == 2


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), ValueError("RESOURCE_EXHAUSTED: [os_error_code='28']")],
)
def test_disk_errors_in_the_background_surface_at_the_next_call(tmp_path, monkeypatch, error):
    class Failed:
        def result(self):
            raise error

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"w": jnp.ones(2)})
    checkpoints.wait()
    monkeypatch.setattr(orbax(), "save_async", lambda *_, **__: Failed())
    checkpoints.save(2, {"w": jnp.ones(2)})
    with pytest.raises(InputError, match="Checkpoint 2 .*No space left on device.* last complete step is 1"):
        checkpoints.save(3, {"w": jnp.ones(2)})


def test_other_errors_in_the_background_are_raised_as_they_are(tmp_path, monkeypatch):
    class Failed:
        def result(self):
            raise ValueError("not about the disk")

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(orbax(), "save_async", lambda *_, **__: Failed())
    checkpoints.save(2, {"w": jnp.ones(2)})
    with pytest.raises(ValueError, match="^not about the disk$"):
        checkpoints.close()


def test_a_failed_save_does_not_hide_what_ended_the_run(tmp_path, monkeypatch):
    class Failed:
        def result(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(orbax(), "save_async", lambda *_, **__: Failed())
    with pytest.raises(ZeroDivisionError) as caught, Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.ones(2)})
        raise ZeroDivisionError
    assert "No space left" in caught.value.__notes__[0]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"could not be written to {tmp_path}/file/checkpoints .*Not a directory"):
        Checkpoints(tmp_path / "file" / "checkpoints").save(1, {"w": jnp.ones(2)})

    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoint_folders.tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match="Permission denied.*there is no complete step yet"):
        Checkpoints(tmp_path).save(1, {"w": jnp.ones(2)})


def test_eight_devices_read_what_another_mesh_saved(tmp_path):
    script = run_script("checkpoint_meshes", tmp_path, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    output, _ = script.communicate()
    assert script.returncode == 0 and output.strip() == "same"


def test_two_processes_save_and_read_what_neither_holds_whole(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = "--xla_force_host_platform_device_count=2"
    scripts = [run_script("checkpoint_processes", tmp_path, address, process, XLA_FLAGS=flags) for process in (0, 1)]
    outputs = [script.communicate(timeout=120)[0] for script in scripts]
    assert [script.returncode for script in scripts] == [0, 0] and all("same" in output for output in outputs)


def test_saving_and_reading_log_nothing(tmp_path, caplog):
    caplog.set_level("DEBUG", logger="absl")
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.ones(2)})
        checkpoints.restore({"w": jax.ShapeDtypeStruct((2,), jnp.float32)})
    assert caplog.records == []
