"""Every mesh computes the same; parameters lie where the rules say."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from mim_jax.errors import InputError
from mim_jax.training.sharding import AXES, check_batch_size, make_mesh, state_shardings


def losses(devices, meshes):
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-m", "tests.training.mesh_check", json.dumps(meshes)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_meshes_of_eight_devices_give_the_losses_of_one():
    (expected,) = losses(1, [[1, 1, 1, 1]])
    data, fsdp, mixed, accumulated = losses(8, [[8, 1, 1, 1], [1, 8, 1, 1], [2, 2, 2, 1], [4, 1, 2, 2]])
    for result in (data, fsdp, mixed, accumulated):
        np.testing.assert_allclose(result["metrics"], expected["metrics"], rtol=1e-5)
        np.testing.assert_allclose(result["sum"], expected["sum"], rtol=1e-5)
    assert data["kernel_shard"] == [32, 3, 4, 8]
    assert fsdp["kernel_shard"] == [4, 3, 4, 8]
    assert mixed["kernel_shard"] == [16, 3, 2, 8]
    assert fsdp["replicated_optimizer_leaves"] < data["replicated_optimizer_leaves"]


def test_mesh_that_does_not_cover_the_devices_is_refused():
    with pytest.raises(InputError, match="data 3 x fsdp 1 x tensor 1 does not cover 1 devices"):
        make_mesh(3)
    with pytest.raises(InputError, match="does not cover"):
        make_mesh(-1, 2)


def test_batch_that_does_not_divide_is_refused_with_the_nearest_size():
    with pytest.raises(InputError, match="batch size 7 is not divisible by 3 .*nearest that fits is 6"):
        check_batch_size(7, make_mesh(), accumulation=3)


def test_batch_must_divide_over_the_devices():
    mesh = AbstractMesh((4, 2, 1), AXES)
    check_batch_size(32, mesh)
    with pytest.raises(InputError, match="batch size 100 is not divisible by 8 .*nearest that fits is 96"):
        check_batch_size(100, mesh)


def test_parameters_lie_by_the_first_rule_and_what_does_not_divide_stays_whole():
    mesh = AbstractMesh((1, 2, 2), AXES)
    shapes = {
        "blocks": {"0": {"attn": {"qkv": {"kernel": jnp.zeros((8, 3, 4, 2)), "bias": jnp.zeros((3, 3, 2))}}}},
        "decoder": {"blocks": {"stacked": {"mlp": {"fc1": {"kernel": jnp.zeros((5, 8, 6))}}}}},
        "cls_token": jnp.zeros(8),
    }
    assert [sharding.spec for sharding in jax.tree.leaves(state_shardings(shapes, mesh))] == [
        PartitionSpec(None, None, None),
        PartitionSpec("fsdp", None, "tensor", None),
        PartitionSpec(None),
        PartitionSpec(None, "fsdp", "tensor"),
    ]
