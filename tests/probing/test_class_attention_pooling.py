"""CaiT, DinoViT and SimPool: parity with the originals, parameter counts, the power mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.probing.pooling.class_attention import CaiT, DinoViT, SimPool, SimPoolWithoutMaps, power_mean
from tests.probing.golden_heads import (
    TOLERANCE,
    apply,
    class_token_error,
    drawn,
    errors,
    example,
    initial,
    parameter_count,
)

_CAIT = ((r"\bquery$", "cls_token"), (r"block(\d)", r"blocks_token_only.\1"), (r"(\d)\.proj", r"\1.attn.proj"))
_DINO = ((r"block\.(qkv|proj)", r"block.attn.\1"), (r"\bblock", "dino_block"))
CASES = {
    "cait": (CaiT(), _CAIT),
    "cait_2blocks": (CaiT(blocks=2), _CAIT),
    "dinovit": (DinoViT(), _DINO),
    "simpool": (SimPool(), ()),
    "esimpool": (SimPoolWithoutMaps(), ()),
}
COUNTS = [(CaiT(), 7_091_712), (DinoViT(), 7_085_568), (SimPool(), 1_181_184), (SimPoolWithoutMaps(), 1_536)]


@pytest.mark.parametrize("case", CASES)
def test_pooling_and_classifier_match_the_original(case: str):
    assert max(errors(case, *CASES[case]).values()) < TOLERANCE


@pytest.mark.parametrize("name", ["cait", "simpool"])
def test_class_token_as_the_query_matches_the_original(name: str):
    pooling, names = {"cait": (CaiT(query="class_token"), _CAIT), "simpool": (SimPool(query="class_token"), ())}[name]
    assert class_token_error(name, pooling, names) < TOLERANCE


@pytest.mark.parametrize("pooling, count", COUNTS)
def test_parameters_are_as_many_as_in_the_original(pooling, count: int):
    assert parameter_count(pooling) == count


def test_power_mean_is_that_of_the_values_above_the_least_of_the_image():
    random = np.random.default_rng(0)
    values = random.standard_normal((3, 5, 6)).astype(np.float32)
    weights = random.dirichlet(np.ones(5), (3, 2)).astype(np.float32)
    shifted = (values - values.min(axis=(1, 2), keepdims=True) + 1e-6).reshape(3, 5, 2, 3)
    expected = np.einsum("bkn,bnke->bke", weights, shifted**2.5) ** (1 / 2.5)
    ours = jax.jit(power_mean, static_argnums=2)(jnp.asarray(weights), jnp.asarray(values), 2.5)
    np.testing.assert_allclose(ours, expected.reshape(3, 6), rtol=1e-5)


@pytest.mark.parametrize("pooling", [SimPool(gamma=1.25), SimPoolWithoutMaps(heads=4, gamma=1.25)])
def test_a_feature_does_not_depend_on_the_other_images(pooling):
    tokens = example()
    variables = drawn(pooling, tokens)
    alone = apply(pooling, variables, tokens.replace(tokens=tokens.tokens[1:2]))
    np.testing.assert_allclose(apply(pooling, variables, tokens)[1:2], alone, rtol=1e-5)


def test_blocks_of_cait_start_almost_closed():
    tokens = example()
    start = initial(CaiT(blocks=2), tokens)["params"]
    for block in ("block0", "block1"):
        np.testing.assert_allclose(start[block]["gamma_1"], 1e-5)
        np.testing.assert_allclose(start[block]["gamma_2"], 1e-5)


@pytest.mark.parametrize("pooling, heads", [(CaiT(), 4), (SimPool(), 1), (SimPoolWithoutMaps(), 12)])
def test_weights_are_of_the_patches_and_one_image_is_enough(pooling, heads: int):
    tokens = example(batch=1, dtype=jnp.bfloat16)
    pooled, variables = jax.eval_shape(pooling.init_with_output, jax.random.key(0), tokens)
    assert pooled.shape == (1, 24) and pooled.dtype == np.float32
    weights = jax.eval_shape(lambda *given: pooling.apply(*given, method="weights"), variables, tokens)
    assert weights.shape == (1, heads, 16)


def test_wrong_options_are_refused():
    with pytest.raises(InputError, match="blocks must be 1 or more"):
        CaiT(blocks=0)
    with pytest.raises(InputError, match="choose heads that divide it"):
        parameter_count(DinoViT(heads=5), width=24, side=2)
