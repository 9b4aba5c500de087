"""Many probes trained together are the probes that one would train one by one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.models.build import initial_parameters, make_encoder
from mim_jax.models.presets import encoder_config
from mim_jax.probing.bank import HeadOptions, ProbeBank
from mim_jax.probing.reading import FrozenEncoder, Reading, split_inputs

CONFIG = encoder_config("vit_tiny_patch16", image_size=(8, 8), patch_size=(2, 2), width=12, depth=2, num_heads=3)
READINGS = (
    Reading(2, "cls"),
    Reading(2, "mean", final_norm=True),
    Reading(1, "attn-mn"),
    Reading(2, "abmilp"),
    Reading(1, "ep(queries=2)"),
)


def encoder(readings=READINGS, config=CONFIG):
    frozen = FrozenEncoder(make_encoder(config), config, tuple(readings))
    return frozen, initial_parameters(config, jax.random.key(1))


def bank(readings, fixed, rates=(0.5, 0.05), optimizer="lars", classes=3):
    decays = (0.0,) * len(rates)
    return ProbeBank(readings, fixed, rates, decays, optimizer, lambda step: 1.0, HeadOptions(classes))


@pytest.fixture(scope="module")
def prepared():
    frozen, parameters = encoder()
    split, fixed = split_inputs(frozen.readings, frozen.shapes(parameters))
    images = jax.random.normal(jax.random.key(2), (16, 8, 8, 3))
    inputs = jax.jit(lambda tree, images: split(frozen.tokens(tree, images)))(parameters, images)
    return inputs, fixed, jnp.arange(16) % 3


def train(bank, inputs, labels, steps=3):
    shapes = jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: leaf[:1], tree), inputs)
    state, step = bank.initial_state(0, shapes), jax.jit(bank.step)
    for _ in range(steps):
        state, metrics = step(state, inputs, labels)
    return state, metrics


def test_poolings_without_parameters_are_computed_once(prepared):
    inputs, fixed, _ = prepared
    assert {reading.pooling for reading in fixed} == {"cls", "mean", "attn-mn"}
    assert inputs["pooled"].keys() == {str(reading) for reading in fixed}
    assert inputs["tokens"].keys() == {"1", "2"}


def test_a_bank_trains_as_each_reading_alone(prepared):
    inputs, fixed, labels = prepared
    together, _ = train(bank(READINGS, fixed), inputs, labels)
    for reading in READINGS:
        alone = bank((reading,), fixed)
        state, step = alone.initial_state(0, inputs), jax.jit(alone.step)
        parameters = {str(reading): bank(READINGS, fixed).initial_state(0, inputs).parameters[str(reading)]}
        state = dataclasses.replace(state, parameters=parameters)
        for _ in range(3):
            state, _ = step(state, inputs, labels)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6),
            together.parameters[str(reading)],
            state.parameters[str(reading)],
        )


def test_a_probe_that_diverges_leaves_the_others_alone(prepared):
    inputs, fixed, labels = prepared
    readings = (READINGS[0],)
    wild, metrics = train(bank(readings, fixed, (3e38, 0.05), "sgd"), inputs, labels, 6)
    calm, _ = train(bank(readings, fixed, (0.01, 0.05), "sgd"), inputs, labels, 6)
    assert metrics["diverged"] == 1 and np.isfinite(metrics["loss"])
    name = str(readings[0])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[1]), wild.parameters[name], calm.parameters[name])


def test_probes_learn_and_invalid_images_do_not_count(prepared):
    inputs, fixed, labels = prepared
    probes = bank(READINGS, fixed, (1.0, 0.3), "adamw")
    state, _ = train(probes, inputs, labels, 60)
    correct = jax.jit(probes.correct)
    everything = correct(state, inputs, labels, jnp.ones(16, bool))
    assert all(found.shape == (2,) and found.max() >= 14 for found in everything.values())
    nothing = correct(state, inputs, labels, jnp.zeros(16, bool))
    assert all(found.max() == 0 for found in nothing.values())


def test_parameters_of_heads_are_counted(prepared):
    inputs, fixed, _ = prepared
    counts = bank(READINGS, fixed).parameter_counts(bank(READINGS, fixed).initial_state(0, inputs))
    linear = 12 * 3 + 3
    assert counts["block 2, cls"] == linear and counts["block 2, abmilp"] == linear + 13
    assert counts["block 1, ep(queries=2)"] == linear + 12 * 12 + 2 * 12


@pytest.mark.parametrize(
    "reading, changes, message",
    [
        (Reading(3, "cls"), {}, "there is no block 3; this encoder has blocks 1 to 2"),
        (Reading(2, "mean", True), {"final_norm": False}, "has no final norm"),
        (Reading(2, "attention"), {}, "attention"),
    ],
)
def test_readings_that_cannot_be_are_refused(reading, changes, message):
    with pytest.raises(InputError, match=message):
        encoder((reading,), dataclasses.replace(CONFIG, **changes))


def test_windows_have_no_global_attention_to_read():
    swin = encoder_config(
        "swin_tiny_patch4_window7",
        image_size=(8, 8),
        patch_size=(1, 1),
        width=8,
        depths=(1, 1),
        num_heads=(1, 2),
        window=4,
    )
    frozen, parameters = encoder((Reading(1, "mean"), Reading(2, "max", True)), swin)
    shapes = frozen.shapes(parameters)
    assert shapes["1"].tokens.shape == (1, 64, 8) and shapes["2n"].tokens.shape == (1, 16, 16)
    with pytest.raises(InputError, match="windows do not have"):
        encoder((Reading(1, "attn-mn"),), swin)
    with pytest.raises(InputError, match="not of the last stage"):
        encoder((Reading(1, "mean", True),), swin)


def test_class_token_is_asked_for_where_there_is_none():
    config = dataclasses.replace(CONFIG, class_token=False, position_prefix=0)
    frozen, parameters = encoder((Reading(2, "cls"),), config)
    with pytest.raises(InputError, match="no class token"):
        split_inputs(frozen.readings, frozen.shapes(parameters))
