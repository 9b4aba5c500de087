"""LUT on eight devices equals LUT on one: batch norm is over the global batch. Also run as a script on fake devices."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from mim_jax.models.vit import VisionTransformerConfig
from mim_jax.pretraining.heads import HeadConfig
from mim_jax.pretraining.lut import Lut
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.training.optimizers import adamw
from mim_jax.training.sharding import batch_sharding, global_batch, make_mesh, state_shardings
from mim_jax.training.state import initial_state, make_train_step


def setup():
    config = VisionTransformerConfig((16, 16), (4, 4), 3, width=16, depth=1, num_heads=4)
    head = HeadConfig(hidden=32)
    objective = Lut(MaskedAutoencoder(config, DecoderConfig(16, 1, 2)), head, head)
    schedule = lambda step: 1e-3
    optimizer = adamw(schedule, betas=(0.9, 0.95), weight_decay=0.05)
    return objective, optimizer, schedule, jax.jit(lambda: initial_state(objective, optimizer, 0))()


def run(mesh, accumulation, objective, optimizer, schedule, state):
    """Losses of two steps, the running statistics and the teacher after them."""
    step = make_train_step(
        objective, optimizer, lambda batch: batch, schedule, seed=0, total_steps=4, accumulation=accumulation
    )
    images = np.random.default_rng(0).normal(size=(2, 16, 2, 16, 16, 3)).astype(np.float32)
    shardings = state_shardings(state, mesh)
    state = jax.device_put(state, shardings)
    step = jax.jit(step, in_shardings=(shardings, batch_sharding(mesh)), out_shardings=(shardings, None))
    losses = []
    for batch in images:
        state, measured = step(state, global_batch({"image": batch}, mesh))
        losses.append([float(measured["reconstruction_loss"]), float(measured["contextualization_loss"])])
    kernel = state.memory["teacher"]["parameters"]["projector"]["layer0"]["kernel"]
    return {
        "losses": losses,
        "statistics": [leaf.tolist() for leaf in jax.tree.leaves(state.memory["statistics"])],
        "teacher": [float(abs(leaf).sum()) for leaf in jax.tree.leaves(state.memory["teacher"])],
        "kernel_shard": list(kernel.addressable_shards[0].data.shape),
    }


def results(devices, meshes):
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-m", "tests.pretraining.test_lut_meshes", json.dumps(meshes)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_statistics_losses_and_teacher_are_those_of_one_device():
    whole, accumulated = results(1, [[1, 1, 1, 1], [1, 1, 1, 2]])
    data, mixed = results(8, [[8, 1, 1, 1], [2, 2, 2, 2]])
    for result, expected in ((data, whole), (mixed, accumulated)):
        np.testing.assert_allclose(result["losses"], expected["losses"], rtol=1e-5)
        # Where the gradient is zero but for rounding, Adam's first step has a sign at random.
        np.testing.assert_allclose(result["statistics"], expected["statistics"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(result["teacher"], expected["teacher"], rtol=1e-5, atol=1e-5)
    assert not np.allclose(whole["statistics"], accumulated["statistics"], rtol=1e-3)
    assert (data["kernel_shard"], mixed["kernel_shard"]) == ([16, 32], [8, 16])


if __name__ == "__main__":
    parts = setup()
    print(json.dumps([run(make_mesh(*mesh), accumulation, *parts) for *mesh, accumulation in json.loads(sys.argv[1])]))
