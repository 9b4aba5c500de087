"""The training step: accumulation, averages, randomness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.models.blocks import Computation
from mim_jax.models.stacking import stack_blocks, unstack_blocks
from mim_jax.models.vit import VisionTransformerConfig
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.training.optimizers import adamw
from mim_jax.training.state import initial_state, make_train_step

CONFIG = VisionTransformerConfig((8, 8), (4, 4), 1, width=8, depth=2, num_heads=2)


def schedule(step):
    return 1e-2


def objective(**computation):
    return MaskedAutoencoder(CONFIG, DecoderConfig(8, 1, 2), 0.5, computation=Computation(**computation))


def optimizer():
    return adamw(schedule, betas=(0.9, 0.95), weight_decay=0.05)


@pytest.fixture(scope="module")
def state():
    return initial_state(objective(), optimizer(), 0, average=True)


@pytest.fixture(scope="module")
def batch():
    return {"image": jax.random.normal(jax.random.key(5), (6, 8, 8, 1))}


def after(state, batch, *, steps=1, seed=0, computation=Computation(), **options):
    mae = MaskedAutoencoder(CONFIG, DecoderConfig(8, 1, 2), 0.5, computation=computation)
    step = jax.jit(make_train_step(mae, optimizer(), lambda batch: batch, schedule, seed=seed, **options))
    for _ in range(steps):
        state, metrics = step(state, batch)
    return state, metrics


def largest_difference(one, other):
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), one, other)))


@pytest.mark.parametrize("accumulation", [2, 3, 6])
def test_accumulation_equals_one_large_batch(state, batch, accumulation):
    whole, measured = after(state, batch)
    parts, accumulated = after(state, batch, accumulation=accumulation)
    assert float(accumulated["loss"]) == pytest.approx(float(measured["loss"]), rel=1e-5)
    assert float(accumulated["gradient_norm"]) == pytest.approx(float(measured["gradient_norm"]), rel=1e-5)


def test_step_is_a_function_of_seed_and_step(state, batch):
    first, again, other = (after(state, batch, steps=2, seed=seed)[0] for seed in (0, 0, 1))
    assert largest_difference(first, again) == 0
    assert largest_difference(first.parameters, other.parameters) > 0


def test_masks_differ_from_step_to_step(state, batch):
    frozen = jax.tree.map(jnp.zeros_like, state.optimizer)
    losses = [float(after(state.replace(step=jnp.int32(s), optimizer=frozen), batch)[1]["loss"]) for s in range(3)]
    assert len(set(losses)) == 3


def test_average_follows_the_parameters(state, batch):
    new, _ = after(state, batch, average_decay=0.9)
    expected = jax.tree.map(lambda old, now: 0.9 * old + 0.1 * now, state.parameters, new.parameters)
    assert largest_difference(new.average, expected) < 1e-6
    assert initial_state(objective(), optimizer(), 0).average is None


def test_bfloat16_computation_keeps_float32_parameters_and_nearly_the_loss(state, batch):
    new, measured = after(state, batch, computation=Computation(dtype="bfloat16"))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(new.parameters))
    assert measured["loss"].dtype == jnp.float32
    assert float(measured["loss"]) == pytest.approx(float(after(state, batch)[1]["loss"]), rel=0.02)


def test_fixed_positions_stay_as_they_are(state, batch):
    new, _ = after(state, batch, steps=3)
    for part in ("encoder", "decoder"):
        assert jnp.array_equal(new.parameters[part]["pos_embed"]["table"], state.parameters[part]["pos_embed"]["table"])
    assert largest_difference(new.parameters["encoder"]["cls_token"], state.parameters["encoder"]["cls_token"]) > 0


def test_optimizer_state_is_stacked_with_the_parameters(state, batch):
    scanned = initial_state(objective(), optimizer(), 0, average=True, arrange=stack_blocks)
    assert largest_difference(unstack_blocks(scanned), state) == 0
    stepped, _ = after(scanned, batch, computation=Computation(scan_blocks=True))
    assert jax.tree.structure(unstack_blocks(stepped)) == jax.tree.structure(state)


def test_initialisation_is_maes():
    config = VisionTransformerConfig((32, 32), (8, 8), 3, width=64, depth=2, num_heads=4)
    parameters = MaskedAutoencoder(config, DecoderConfig(32, 1, 2)).init(jax.random.key(0))
    encoder, block = parameters["encoder"], parameters["encoder"]["blocks"]["1"]
    bounds = [
        (block["attn"]["qkv"]["kernel"], (6 / (64 + 192)) ** 0.5),
        (block["attn"]["proj"]["kernel"], (6 / (64 + 64)) ** 0.5),
        (block["mlp"]["fc1"]["kernel"], (6 / (64 + 256)) ** 0.5),
        (encoder["patch_embed"]["kernel"], (6 / (192 + 64)) ** 0.5),
        (encoder["patch_embed"]["bias"], 192**-0.5),
        (parameters["decoder"]["embed"]["kernel"], (6 / (64 + 32)) ** 0.5),
        (parameters["decoder"]["pred"]["kernel"], (6 / (32 + 192)) ** 0.5),
    ]
    for values, bound in bounds:
        assert 0.85 * bound < float(jnp.abs(values).max()) <= bound
    assert 0.01 < float(encoder["cls_token"].std()) < 0.03
    blocks = parameters["encoder"]["blocks"]
    assert largest_difference(blocks["0"]["mlp"]["fc1"]["kernel"], blocks["1"]["mlp"]["fc1"]["kernel"]) > 0.1
    zeros = [block["attn"]["qkv"]["bias"], block["mlp"]["fc2"]["bias"], parameters["decoder"]["pred"]["bias"]]
    assert not any(np.any(value) for value in zeros)
