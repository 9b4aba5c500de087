"""TokenCut as a pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from mim_jax.errors import InputError
from mim_jax.probing.pooling import FrozenTokens, make_pooling
from mim_jax.probing.pooling.tokencut import POOLINGS, SoftEigenvector, second_eigenvector, similarity_graph
from tests.probing.frozen_encoders import VIT, of_case

RANDOM = np.random.default_rng(0)
GRID, OBJECT = (4, 4), np.asarray([5, 6, 9, 10])
IN_OBJECT = np.isin(np.arange(16), OBJECT)
TOKENS = jnp.asarray(RANDOM.standard_normal((3, 17, 6)), jnp.float32)


def keys_of_a_scene() -> np.ndarray:
    """Four patches point one way, the twelve around them another, in three images of different noise."""
    directions = np.where(IN_OBJECT[:, None], [1.0, 0, 0, 0], [0, 1.0, 0, 0])
    return (directions + 0.05 * RANDOM.standard_normal((3, 16, 4))).astype(np.float32)


SCENE = FrozenTokens(TOKENS, GRID, 1, {"keys": jnp.asarray(keys_of_a_scene())})
NOISE = FrozenTokens(TOKENS, GRID, 1, {"keys": jnp.asarray(RANDOM.standard_normal((3, 16, 8)), jnp.float32)})


def weights(text: str, frozen: FrozenTokens = SCENE) -> np.ndarray:
    return np.asarray(make_pooling(text).apply({}, frozen, method="weights"))[:, 0]


def reference(keys: np.ndarray) -> np.ndarray:
    """The eigenvector in float64 from the generalised problem itself, large values positive."""
    directions = keys / np.linalg.norm(keys, axis=-1, keepdims=True)
    edges = np.where(directions @ directions.T > 0.2, 1.0, 1e-5)
    degree = np.diag(edges.sum(1))
    vector = scipy.linalg.eigh(degree - edges, degree, subset_by_index=[1, 1])[1][:, 0]
    return vector * np.sign(vector[np.abs(vector).argmax()])


def test_edges_join_similar_patches():
    edges = similarity_graph(jnp.asarray([[[1.0, 0], [2.0, 0.1], [0, 3.0], [0, 0]]]), 0.2)
    similar = np.asarray([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(edges[0], np.where(similar, np.float32(1), np.float32(1e-5)))


@pytest.mark.parametrize("frozen", [SCENE, NOISE], ids=["scene", "noise"])
def test_the_eigenvector_solves_the_generalised_problem(frozen: FrozenTokens):
    ours = make_pooling("tcut-bip").apply({}, frozen, method="eigenvector")
    for vector, keys in zip(np.asarray(ours), np.asarray(frozen.observations["keys"], np.float64)):
        expected = reference(keys)
        np.testing.assert_allclose(vector, expected, atol=1e-4 * np.abs(expected).max())


def test_parts_that_hardly_hang_together_do_not_mix_with_the_constant_vector():
    """Their eigenvalue is about 1e-5, near that of the constant vector, which is 0."""
    part = np.repeat(np.arange(2), [60, 136])
    edges = np.where(part[:, None] == part, 1.0, 1e-5).astype(np.float32)[None]
    vector = np.asarray(second_eigenvector(jnp.asarray(edges))[0], np.float64)
    for side in (0, 1):
        np.testing.assert_allclose(vector[part == side], vector[part == side].mean(), rtol=1e-3)
    np.testing.assert_allclose((edges[0].sum(1) * vector).sum(), 0, atol=1e-4)


def test_the_foreground_is_the_object():
    np.testing.assert_allclose(weights("tcut-bip"), np.tile(IN_OBJECT / 4, (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(weights("tcut-bip-f"), np.tile(~IN_OBJECT / 12, (3, 1)), rtol=1e-6)
    patches = np.asarray(TOKENS[:, 1:])
    np.testing.assert_allclose(
        make_pooling("tcut-bip").apply({}, SCENE), patches[:, IN_OBJECT].mean(1), rtol=1e-4, atol=1e-6
    )


def test_weights_are_those_of_their_definitions():
    keys = np.asarray(NOISE.observations["keys"], np.float64)
    for image in range(3):
        vector = reference(keys[image])
        for suffix, v, side in (
            ("", vector, vector >= vector.mean()),
            ("-f", -vector, vector < vector.mean()),
        ):
            above, soft = v - v.min(), np.exp((v - v.mean()) / v.std())
            expected = {"bip": 1.0 * side, "eig": above, "eigbip": above * side, "eigsft": soft}
            for name, shares in expected.items():
                ours = weights(f"tcut-{name}{suffix}", NOISE)[image]
                np.testing.assert_allclose(ours, shares / shares.sum(), atol=1e-4, err_msg=name + suffix)


@pytest.mark.parametrize("name", POOLINGS)
def test_weights_sum_to_one_and_are_none_negative(name: str):
    ours = weights(name, of_case(VIT)[0][-1])
    np.testing.assert_allclose(ours.sum(-1), np.ones(3), rtol=1e-5)
    assert (ours >= 0).all()


@pytest.mark.parametrize("name", POOLINGS)
def test_features_are_float32_also_of_one_image_in_bfloat16(name: str):
    one = FrozenTokens(TOKENS[:1].astype(jnp.bfloat16), GRID, 1, {"keys": SCENE.observations["keys"][:1]})
    feature = jax.jit(lambda frozen: make_pooling(name).apply({}, frozen))(one)
    assert feature.dtype == jnp.float32 and feature.shape == (1, 6)
    assert np.isfinite(feature).all()


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("grid", [(1, 1), (4, 4)])
def test_patches_that_are_all_alike_give_no_nan(name: str, grid: tuple):
    patches = grid[0] * grid[1]
    alike = FrozenTokens(jnp.ones((2, patches, 6)), grid, 0, {"keys": jnp.ones((2, patches, 4))})
    assert np.isfinite(make_pooling(name).apply({}, alike)).all()


def test_tokens_can_be_compared_instead_of_keys():
    keys = SCENE.observations["keys"]
    tokens = FrozenTokens(keys, GRID, 0)
    pooling = make_pooling("tcut-eig(features=tokens)")
    assert pooling.needs == ()
    np.testing.assert_array_equal(pooling.apply({}, tokens, method="weights")[:, 0], weights("tcut-eig"))


def test_the_threshold_decides_what_is_similar():
    assert not np.allclose(weights("tcut-bip", NOISE), weights("tcut-bip(threshold=0.6)", NOISE))


def test_temperature_goes_from_one_patch_to_all():
    np.testing.assert_allclose(weights("tcut-eigsft(temperature=1e6)", NOISE), np.full((3, 16), 1 / 16), rtol=1e-4)
    most = make_pooling("tcut-bip").apply({}, NOISE, method="eigenvector").argmax(-1)
    np.testing.assert_array_equal(weights("tcut-eigsft(temperature=1e-3)", NOISE).argmax(-1), most)
    with pytest.raises(InputError, match="temperature of 'tcut-eigsft' must be above 0"):
        SoftEigenvector(temperature=0.0)


def test_missing_keys_are_named():
    with pytest.raises(InputError, match="observation 'keys' is missing .given: none."):
        make_pooling("tcut-bip").apply({}, FrozenTokens(TOKENS, GRID, 1))
