"""Every trained pooling and its head get float32's gradient from an encoder that computes in bfloat16."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

from mim_jax.models.blocks import Computation
from mim_jax.models.build import initial_parameters, make_encoder
from mim_jax.models.presets import encoder_config
from mim_jax.probing.bank import HeadOptions, ProbeBank
from mim_jax.probing.reading import FrozenEncoder, Reading, split_inputs
from tests.gradients import compare, pictures

CONFIG = encoder_config("vit_tiny_patch16", image_size=(32, 32), patch_size=(8, 8), width=48, depth=2, num_heads=4)
IMAGES, CLASSES = 32, 4

POOLINGS = (
    "cls", "mean", "both", "gem", "abmilp(depth=2, activation=tanh, content=all, self_attention=both, condition=pe)",
    "ep(queries=4)", "aim(heads=4)", "capi(head_width=12)", "cae(heads=4)", "vjepa(heads=4)",
    "vjepa2(heads=4, blocks=1)", "siglip(heads=4)", "clip(heads=4)", "coca(heads=4, head_width=12, queries=2)",
    "cait(heads=4)", "dinovit(heads=4)", "simpool", "esimpool(heads=4)", "cbam", "dolg",
)  # fmt: skip
READINGS = tuple(Reading(2, pooling) for pooling in POOLINGS)  # the block's tokens, which are not in float32


@functools.cache
def inputs_of(dtype):
    """What the probes are given by the encoder in this type, and which readings are pooled already."""
    frozen = FrozenEncoder(make_encoder(CONFIG, Computation(dtype)), CONFIG, READINGS)
    parameters = initial_parameters(CONFIG, jax.random.key(1))
    split, fixed = split_inputs(READINGS, frozen.shapes(parameters))
    images = pictures(jax.random.key(2), IMAGES)
    return jax.jit(lambda tree, images: split(frozen.tokens(tree, images)))(parameters, images), fixed


def float32(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)


@functools.cache
def compared(reading, same_tokens):
    """Gradients of one probe: by the tokens of each encoder, or by those of the bfloat16 one in both types."""
    rounded, fixed = inputs_of("bfloat16")
    exact = float32(rounded) if same_tokens else inputs_of("float32")[0]
    bank = ProbeBank((reading,), fixed, (1.0,), (0.0,), "sgd", lambda step: 1.0, HeadOptions(CLASSES))
    state = bank.initial_state(0, jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: leaf[:1], tree), rounded))
    labels, name = jax.random.randint(jax.random.key(3), (IMAGES,), 0, CLASSES), str(reading)

    def loss(parameters, inputs):
        logits, _ = bank.logits(reading, parameters, state.memory[name], inputs, True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[None]).mean()

    gradient = lambda inputs: jax.jit(lambda parameters: jax.grad(loss)(parameters, inputs))
    return compare(gradient(exact), gradient(rounded), state.parameters[name])


@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_gradients_of_probes_are_those_in_float32(reading):
    for found in compared(reading, same_tokens=True):
        assert {name: error for name, error in found.errors.items() if error > 1e-4} == {}
