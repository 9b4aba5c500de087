"""Objects that hold arrays print in a line, whatever is in them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.models.build import initial_parameters, make_encoder
from mim_jax.models.presets import encoder_config
from mim_jax.ops.attention import Observation
from mim_jax.ops.attention_statistics import attention_statistics
from mim_jax.ops.showing import in_words, shortened
from mim_jax.pretraining.mae import MaskedAutoencoder
from mim_jax.training.state import TrainState

SIZES = {"image_size": (8, 8), "patch_size": (2, 2), "channels": 1}
CONFIG = encoder_config("vit_tiny_patch16", **SIZES, width=16, depth=3, num_heads=2)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((2, 3), np.uint8), "uint8[2,3]"),
        (jnp.zeros((), jnp.bfloat16), "bfloat16[]"),
        (jax.ShapeDtypeStruct((4,), jnp.int32), "int32[4]"),
        ((1, 2, 3), "(1, 2, 3)"),
        (tuple(range(20)), "(0, 1, 2, 3, 4, 5, 6, 7, 12 more)"),
        ([np.zeros(2)] * 5, "5 x float64[2]"),
        ({"a": np.zeros(2, np.float32), "b": None}, "{'a': float32[2], 'b': None}"),
        ("x" * 300, f"'{'x' * 196}..."),
    ],
)
def test_a_value_in_words(value, words):
    assert in_words(value) == words


def test_a_text_is_shortened_to_one_line():
    assert shortened("a\n  b", 10) == "a b" and shortened("abcdefghijk", 10) == "abcdefg..."


def test_what_an_encoder_returns_shows_shapes_also_while_it_is_traced():
    encoder, parameters = make_encoder(CONFIG), initial_parameters(CONFIG, jax.random.key(0))
    seen = []

    def observer(block: Observation):
        seen.append(repr(block))
        return attention_statistics(block.query, block.key, grid=(4, 4), prefix=1)

    @jax.jit
    def encode(images):
        out = encoder.apply({"params": parameters}, images, taps=(1, 2, 3), observer=observer)
        seen.append(repr(out))
        return out

    out = encode(jnp.zeros((2, 8, 8, 1)))
    tokens = "Tokens(tokens=float32[2,17,16], grid=(4, 4), prefix=1)"
    assert repr(out).startswith(
        "EncoderOutput(tokens=float32[2,17,16], grid=(4, 4), prefix=1, observations=AttentionSta"
    )
    assert repr(out).endswith(f"taps=3 x {tokens})") and len(repr(out)) < 500
    assert repr(out.taps[0]) == tokens
    assert seen[0].startswith("Observation(query=float32[2,2,17,8], key=float32[2,2,17,8]")
    assert seen[-1] == repr(out)
    assert repr(out.observations).startswith("AttentionStatistics(heads={'class': ..., 'patches': ...}")
    on_host = jax.tree.map(np.asarray, out)
    assert repr(on_host) == repr(out)


def test_other_results_show_shapes_too():
    objective = MaskedAutoencoder(CONFIG)
    parameters = jax.eval_shape(objective.init, jax.random.key(0))
    state = TrainState(0, parameters, ())
    assert repr(state) == "TrainState(step=0, parameters={'decoder': ..., 'encoder': ...}, memory={})"
