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
from mim_jax.models.presets import encoder_config
from mim_jax.models.stacking import stack_blocks
from mim_jax.pretraining.lut import lut_preset
from mim_jax.pretraining.simmim import simmim_preset
from mim_jax.pretraining.supervised import Supervised
from mim_jax.training.sharding import AXES, check_batch_size, make_mesh, state_shardings
from mim_jax.training.trees import leaf_name


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


@pytest.mark.parametrize(
    "objective",
    [
        lambda: simmim_preset("simmim_swin_base_window6_192"),
        lambda: simmim_preset("simmim_swinv2_base_window12_192"),
        lambda: simmim_preset("simmim_vit_base_patch16"),
        lambda: lut_preset("lut_vit_base_patch16"),
        lambda: Supervised(encoder_config("dinov2_vit_giant_patch14"), 1000),
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_no_large_parameter_of_any_model_is_whole_on_every_device(objective, stacked):
    shapes = jax.eval_shape(objective().init, jax.random.key(0))
    shapes = jax.eval_shape(stack_blocks, shapes) if stacked else shapes
    shardings = state_shardings(shapes, AbstractMesh((1, 8, 1), AXES))
    whole = jax.tree.map(lambda leaf, sharding: sharding.is_fully_replicated and leaf.size > 500_000, shapes, shardings)
    found = [leaf_name(path) for path, is_whole in jax.tree_util.tree_leaves_with_path(whole) if is_whole]
    assert [name for name in found if "pos_embed" not in name] == []
