"""Poolings without training."""

import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.probing.pooling import POOLINGS, class_token, mean_patch_tokens

TOKENS = jnp.arange(24.0).reshape(2, 4, 3)


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_mean_leaves_the_prefix_out(prefix: int):
    np.testing.assert_allclose(mean_patch_tokens(TOKENS, prefix), np.asarray(TOKENS)[:, prefix:].mean(1))


def test_class_token_is_the_first_token():
    np.testing.assert_array_equal(class_token(TOKENS, 2), TOKENS[:, 0])


def test_class_token_is_refused_where_there_is_none():
    with pytest.raises(InputError, match="no class token"):
        class_token(TOKENS, 0)


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_give_float32(name: str):
    assert POOLINGS[name](TOKENS.astype(jnp.bfloat16), 1).dtype == jnp.float32
