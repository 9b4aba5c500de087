"""Poolings with weights from attention, and the observers that record it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.models.build import initial_parameters, make_encoder
from mim_jax.models.swin import SwinConfig
from mim_jax.ops.attention import Observation
from mim_jax.probing.pooling import FrozenTokens, make_pooling
from mim_jax.probing.pooling.from_attention import POOLINGS, CentralAttention, ClassAttention, OracleAttention
from mim_jax.probing.pooling.observing import RECORDERS, make_observer
from tests.golden_cases import relative_error
from tests.probing.frozen_encoders import SIMMIM, VIT, of_appendix, of_case

RANDOM = np.random.default_rng(0)
QUERY, KEY = RANDOM.standard_normal((2, 2, 3, 26, 4)).astype(np.float32)
BIAS = RANDOM.standard_normal((3, 26, 26)).astype(np.float32)
TOKENS = jnp.asarray(RANDOM.standard_normal((2, 26, 12)), jnp.float32)
GRID, PREFIX = (4, 6), 2
ORIGINALS = ("ca1", "ca2", "ca3", "ca4", "attn-mn", "attn-lcte")

# First numbers of image 0, sum, sum of magnitudes over both images.
APPENDIX = {
    "ca1": ((-0.07544404, 0.005822458), 0.74536545, 4.2999469),
    "ca2": ((-0.06209299, -0.006541084), 0.9347773, 3.9203627),
    "ca3": ((-0.05714521, 0.003897145), 0.85329652, 3.6484463),
    "ca4": ((-0.05805321, 0.01341864), 0.75278002, 3.6527643),
    "attn-lcte": ((-0.2830243, -1.36357, 1.658682, 0.02650244), 10.106821, 110.82262),
    "attn-mn": ((0.09421089, -0.4892984, 1.256984, -1.406865), 15.803894, 66.036787),
}


def attended(bias=None) -> np.ndarray:
    """All attention weights, in float64."""
    logits = np.einsum("bkne,bkme->bknm", QUERY, KEY, dtype=np.float64) * 0.5 + (0 if bias is None else bias)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def observed(needs, bias=None, grid=GRID, prefix=PREFIX) -> dict:
    query, key = jnp.asarray(QUERY), jnp.asarray(KEY)
    observation = Observation(query, key, key, 0.5, bias if bias is None else jnp.asarray(bias), TOKENS, TOKENS)
    return make_observer(needs, grid, prefix)(observation)


def frozen(**observations) -> FrozenTokens:
    return FrozenTokens(TOKENS, GRID, PREFIX, {name: jnp.asarray(value) for name, value in observations.items()})


@pytest.mark.parametrize("name", ORIGINALS)
def test_features_are_those_of_the_original(name: str):
    layers, arrays = of_case(VIT)
    assert relative_error(make_pooling(name).apply({}, layers[-1]), arrays[f"features/{name}"]) < 1e-5


@pytest.mark.parametrize("name", APPENDIX)
def test_features_have_the_numbers_of_the_specification(name: str):
    feature = np.asarray(make_pooling(name).apply({}, of_appendix()[-1]), np.float64)
    first, total, magnitude = APPENDIX[name]
    np.testing.assert_allclose(feature[0, : len(first)], first, atol=1e-5)
    np.testing.assert_allclose([feature.sum(), np.abs(feature).sum()], [total, magnitude], atol=1e-4)


@pytest.mark.parametrize("case", [VIT, SIMMIM])
def test_attention_of_the_class_token_is_that_of_the_original(case: str):
    layers, arrays = of_case(case)
    for block, layer in enumerate(layers):
        theirs = arrays["statistics"][2][:, block]  # attention of the class token to each token
        assert relative_error(layer.observations["class_attention"], theirs) < 1e-5


def test_tokens_with_a_shared_position_bias_are_those_of_the_original():
    layers, arrays = of_case(SIMMIM)
    assert relative_error(layers[-1].tokens, arrays["tokens"]) < 1e-5


@pytest.mark.parametrize("bias", [None, BIAS, BIAS[:, :1]])
def test_observations_are_rows_of_attention(bias):
    weights, seen = attended(bias), observed(["class_attention", "central_attention_2"], bias)
    np.testing.assert_allclose(seen["class_attention"], weights[:, :, 0], rtol=1e-5)
    centre = PREFIX + np.asarray([8, 9, 14, 15])
    np.testing.assert_allclose(seen["central_attention_2"], weights[:, :, centre, PREFIX:].mean((1, 2)), rtol=1e-5)


def test_keys_are_those_of_the_patches_with_heads_side_by_side():
    keys = observed(["keys"])["keys"]
    assert keys.shape == (2, 24, 12)
    np.testing.assert_array_equal(keys[1, 3, 4:8], KEY[1, 1, PREFIX + 3])


def test_no_observation_holds_attention_of_every_query():
    for values in observed(RECORDERS).values():
        assert values.size < 2 * 3 * 26 * 26 / 4


def test_only_what_is_needed_is_recorded():
    assert observed([]) == {}
    assert list(observed(["keys", "oracle_attention", "keys"])) == ["keys"]


def test_windowed_attention_is_refused():
    config = SwinConfig(image_size=(8, 8), patch_size=(2, 2), width=8, depths=(1,), num_heads=(2,), window=2)
    parameters = jax.eval_shape(lambda: initial_parameters(config, jax.random.key(0)))
    observer = make_observer(["keys"], config.grid, config.prefix)
    encode = lambda parameters: make_encoder(config).apply(
        {"params": parameters}, jnp.zeros((1, 8, 8, 3)), observer=observer
    )
    with pytest.raises(InputError, match="attends within windows"):
        jax.eval_shape(encode, parameters)


@pytest.mark.parametrize(
    "name, layout, sentence",
    [
        ("class_attentoin", (GRID, 1), "unknown observation.*did you mean 'class_attention'"),
        ("class_attention", (GRID, 0), "no class token"),
        ("central_attention_3", ((2, 4), 1), "3x3 patches is larger than the grid of 2x4"),
    ],
)
def test_what_cannot_be_recorded_is_refused(name: str, layout: tuple, sentence: str):
    with pytest.raises(InputError, match=sentence):
        make_observer([name], *layout)


def test_weights_follow_the_mean_head_or_the_most_selective_one():
    attention = attended()[:, :, 0].astype(np.float32)
    patches = attention[..., PREFIX:]
    weights = make_pooling("attn-mn").apply({}, frozen(class_attention=attention), method="weights")
    np.testing.assert_allclose(weights[:, 0], patches.mean(1) / patches.mean(1).sum(-1, keepdims=True), rtol=1e-5)
    attention[1, 2, PREFIX:] = 1e-9
    attention[1, 2, PREFIX + 5] = 0.3
    weights = make_pooling("attn-lcte").apply({}, frozen(class_attention=attention), method="weights")
    np.testing.assert_allclose(weights[1, 0], np.arange(24) == 5, atol=1e-6)


@pytest.mark.parametrize("name", ["attn-mn", "attn-lcte"])
def test_a_class_token_that_attends_to_no_patch_gives_no_nan(name: str):
    attention = np.zeros((2, 3, 26), np.float32)
    attention[..., 0] = 1
    np.testing.assert_array_equal(make_pooling(name).apply({}, frozen(class_attention=attention)), np.zeros((2, 12)))


def test_central_attention_is_a_weighted_average_over_the_number_of_patches():
    seen = frozen(**observed(["central_attention_2"]))
    total = CentralAttention(2, scale="sum").apply({}, seen)
    np.testing.assert_allclose(CentralAttention(2).apply({}, seen), total / 24, rtol=1e-5)
    weights = CentralAttention(2, scale="sum").apply({}, seen, method="weights")
    np.testing.assert_allclose(weights.sum(-1), np.ones((2, 1)), rtol=1e-4)


def test_the_oracle_weighs_by_the_attention_of_another_encoder():
    attention = RANDOM.uniform(size=(2, 4, 24)).astype(np.float32)
    seen, patches = frozen(oracle_attention=attention), np.asarray(TOKENS[:, PREFIX:])
    weights = attention.mean(1)
    expected = np.einsum("bn,bnd->bd", weights, patches) / 24
    np.testing.assert_allclose(OracleAttention().apply({}, seen), expected, rtol=1e-4, atol=1e-6)
    proper = np.einsum("bn,bnd->bd", weights / weights.sum(-1, keepdims=True), patches)
    np.testing.assert_allclose(OracleAttention(scale="sum").apply({}, seen), proper, rtol=1e-4, atol=1e-6)


def test_an_encoder_that_is_its_own_oracle_has_its_mean_attention():
    attention = observed(["class_attention"])["class_attention"]
    own = ClassAttention().apply({}, frozen(class_attention=attention))
    oracle = OracleAttention("sum").apply({}, frozen(oracle_attention=attention[..., PREFIX:]))
    np.testing.assert_allclose(oracle, own, rtol=1e-5)


@pytest.mark.parametrize("name", POOLINGS)
def test_features_are_float32_also_of_one_image_in_bfloat16(name: str):
    values = observed(RECORDERS) | {"oracle_attention": jnp.ones((2, 2, 24)) / 24}
    one = FrozenTokens(TOKENS[:1].astype(jnp.bfloat16), GRID, PREFIX, jax.tree.map(lambda x: x[:1], values))
    feature = make_pooling(name).apply({}, one)
    assert feature.dtype == jnp.float32 and feature.shape == (1, 12)


@pytest.mark.parametrize("name", POOLINGS)
def test_a_missing_observation_is_named(name: str):
    pooling = make_pooling(name)
    with pytest.raises(InputError, match=f"observation '{pooling.needs[0]}' is missing .given: other.; record it"):
        pooling.apply({}, frozen(other=np.zeros(1)))


def test_attention_over_another_grid_is_refused():
    with pytest.raises(InputError, match="'oracle_attention' is over 196 tokens, but the encoder has 24"):
        make_pooling("oracle").apply({}, frozen(oracle_attention=np.ones((2, 1, 196), np.float32)))
    with pytest.raises(InputError, match="'class_attention' is over 17 tokens, but the encoder has 26"):
        make_pooling("attn-mn").apply({}, frozen(class_attention=np.ones((2, 1, 17), np.float32)))
