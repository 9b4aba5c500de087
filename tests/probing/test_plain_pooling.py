"""Poolings of the tokens alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.probing.pooling import FrozenTokens, make_pooling, mean_patch_tokens
from mim_jax.probing.pooling.centre import central_patches
from mim_jax.probing.pooling.plain import POOLINGS, GeneralizedMean
from tests.golden_cases import relative_error
from tests.probing.frozen_encoders import VIT, of_appendix, of_case

TOKENS = np.random.default_rng(0).standard_normal((2, 2 + 4 * 6, 3)).astype(np.float32)
FROZEN = FrozenTokens(jnp.asarray(TOKENS), (4, 6), 2)
WITHOUT_PREFIX = FrozenTokens(FROZEN.tokens[:, 2:], (4, 6), 0)
PATCHES = TOKENS[:, 2:]

# First numbers of image 0, sum, sum of magnitudes over both images.
APPENDIX = {
    "cls": ((-1.580662, -1.812158, 0.6727107, -0.7491077), 9.5685158, 81.787767),
    "mean": ((-0.9043846, -0.1289872, 0.6964136, -0.1836074), 11.840571, 58.55868),
    "cp1": ((-0.7542465, 0.7995669), 0.681104, 118.31844),
    "cp2": ((0.1796604, -1.268734), 13.498353, 65.492343),
    "cp3": ((-0.8931499, 0.1366012), 15.938545, 55.398237),
    "cp4": ((-0.9043846, -0.1289872, 0.6964136, -0.1836074), 11.840571, 58.55868),
}


def pooled(name: str, frozen: FrozenTokens = FROZEN):
    pooling = make_pooling(name)
    return pooling.apply(pooling.init(jax.random.key(0), frozen), frozen)


@pytest.mark.parametrize("name, theirs", [("cls", "cls"), ("mean", "pos"), *((f"cp{k}",) * 2 for k in (1, 2, 3, 4))])
def test_features_are_those_of_the_original(name: str, theirs: str):
    layers, arrays = of_case(VIT)
    assert relative_error(pooled(name, layers[-1]), arrays[f"features/{theirs}"]) < 1e-5


def test_tokens_are_those_of_the_original_before_the_final_norm():
    layers, arrays = of_case(VIT)
    assert relative_error(layers[-1].tokens, arrays["features/raw"]) < 1e-5
    assert relative_error(layers[1].tokens, arrays["features/raw_block1"]) < 1e-5


@pytest.mark.parametrize("name", APPENDIX)
def test_features_have_the_numbers_of_the_specification(name: str):
    feature = np.asarray(pooled(name, of_appendix()[-1]), np.float64)
    first, total, magnitude = APPENDIX[name]
    np.testing.assert_allclose(feature[0, : len(first)], first, atol=1e-5)
    np.testing.assert_allclose([feature.sum(), np.abs(feature).sum()], [total, magnitude], atol=1e-4)


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_mean_leaves_the_prefix_out(prefix: int):
    np.testing.assert_allclose(mean_patch_tokens(jnp.asarray(TOKENS), prefix), TOKENS[:, prefix:].mean(1), rtol=1e-5)


def test_the_simple_poolings_are_what_they_are_called():
    np.testing.assert_array_equal(pooled("cls"), TOKENS[:, 0])
    np.testing.assert_allclose(pooled("mean"), PATCHES.mean(1), rtol=1e-5)
    np.testing.assert_array_equal(pooled("max"), PATCHES.max(1))
    np.testing.assert_allclose(pooled("both"), np.concatenate([TOKENS[:, 0], PATCHES.mean(1)], axis=1), rtol=1e-5)


@pytest.mark.parametrize("name", POOLINGS)
def test_features_are_float32_also_of_one_image_in_bfloat16(name: str):
    feature = pooled(name, FROZEN.replace(tokens=FROZEN.tokens[:1].astype(jnp.bfloat16)))
    assert feature.dtype == jnp.float32 and feature.shape == (1, 6 if name == "both" else 3)


@pytest.mark.parametrize("name", ["cls", "both"])
def test_a_class_token_is_refused_where_there_is_none(name: str):
    with pytest.raises(InputError, match="no class token.*'mean'"):
        pooled(name, WITHOUT_PREFIX)


@pytest.mark.parametrize("name", [name for name in POOLINGS if name not in ("cls", "both")])
def test_other_poolings_need_no_prefix(name: str):
    np.testing.assert_array_equal(pooled(name, WITHOUT_PREFIX), pooled(name))


def test_generalised_mean_is_that_of_its_formula():
    expected = (np.maximum(PATCHES.astype(np.float64), 1e-6) ** 3).mean(1) ** (1 / 3)
    np.testing.assert_allclose(pooled("gem"), expected, rtol=1e-5)
    clipped = np.maximum(PATCHES, 1e-6)
    np.testing.assert_allclose(pooled("gem(start=1)"), clipped.mean(1), rtol=1e-5)
    np.testing.assert_allclose(pooled("gem(start=200)"), clipped.max(1), rtol=0.02)


def test_generalised_mean_of_negative_numbers_stays_finite_with_its_gradient():
    negative = FROZEN.replace(tokens=-jnp.abs(FROZEN.tokens))
    pooling = GeneralizedMean(start=12.0)
    gradient = jax.grad(lambda p: pooling.apply({"params": {"power": p}}, negative).sum())(jnp.asarray(12.0))
    np.testing.assert_allclose(pooled("gem(start=12)", negative), np.full((2, 3), 1e-6), rtol=1e-4)
    assert np.isfinite(gradient)


@pytest.mark.parametrize("text, shape", [("gem", ()), ("gem(per_feature=true)", (3,))])
def test_the_exponent_is_trained_for_all_features_or_for_each(text: str, shape: tuple):
    pooling = make_pooling(text)
    variables = pooling.init(jax.random.key(0), FROZEN)
    np.testing.assert_array_equal(variables["params"]["power"], np.full(shape, 3.0))
    gradient = jax.grad(lambda params: pooling.apply({"params": params}, FROZEN).sum())(variables["params"])
    assert gradient["power"].shape == shape and (np.asarray(gradient["power"]) != 0).all()


def test_an_exponent_that_is_not_positive_is_refused():
    with pytest.raises(InputError, match="'gem' must start above 0"):
        GeneralizedMean(start=0.0)


@pytest.mark.parametrize(
    "grid, size, rows, columns",
    [
        ((14, 14), 1, [6], [6]),
        ((14, 14), 2, [6, 7], [6, 7]),
        ((14, 14), 3, [5, 6, 7], [5, 6, 7]),
        ((14, 14), 4, [5, 6, 7, 8], [5, 6, 7, 8]),
        ((4, 6), 2, [1, 2], [2, 3]),
        ((5, 4), 4, [0, 1, 2, 3], [0, 1, 2, 3]),
        ((3, 3), 3, [0, 1, 2], [0, 1, 2]),
        ((1, 1), 1, [0], [0]),
    ],
)
def test_the_centre_lies_where_the_original_has_it(grid, size: int, rows: list, columns: list):
    expected = [row * grid[1] + column for row in rows for column in columns]
    np.testing.assert_array_equal(central_patches(grid, size), expected)


def test_central_patches_are_averaged_on_a_rectangular_grid():
    expected = PATCHES.reshape(2, 4, 6, 3)[:, 1:3, 2:4].mean((1, 2))
    np.testing.assert_allclose(pooled("cp2"), expected, rtol=1e-5)


def test_a_centre_larger_than_the_grid_is_refused():
    small = FrozenTokens(FROZEN.tokens[:, :7], (3, 2), 1)
    with pytest.raises(InputError, match="centre of 3x3 patches is larger than the grid of 3x2"):
        pooled("cp3", small)


def test_map_has_rows_and_columns():
    assert FROZEN.map.shape == (2, 4, 6, 3)
    np.testing.assert_array_equal(FROZEN.map[0, 1, 2], PATCHES[0, 8])
