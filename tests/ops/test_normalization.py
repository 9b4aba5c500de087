"""The written derivative of layer normalisation is that of its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.ops.normalization import layer_norm


def plain(x, scale, bias, epsilon):
    x = x.astype(jnp.float32)
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + epsilon) * scale + bias


def arguments(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 4)
    x = (3 + 2 * jax.random.normal(keys[0], (2, 5, 8))).astype(dtype)
    scale, bias = (jax.random.normal(key, (8,)) for key in keys[1:3])
    return (x, scale, bias), jax.random.normal(keys[3], (2, 5, 8))


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
def test_value_and_gradients_are_those_of_the_definition(dtype, tolerance):
    inputs, cotangent = arguments(dtype)
    ours, our_gradients = jax.vjp(lambda *a: layer_norm(*a, 1e-6), *inputs)
    expected, expected_gradients = jax.vjp(lambda *a: plain(*a, 1e-6), *inputs)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    for found, wanted in zip(our_gradients(cotangent), expected_gradients(cotangent)):
        assert found.dtype == wanted.dtype
        found, wanted = (gradient.astype(jnp.float32) for gradient in (found, wanted))
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def test_large_offset_does_not_cancel():
    x = 1e4 + jnp.arange(8.0)[None]
    np.testing.assert_allclose(layer_norm(x, jnp.ones(8), jnp.zeros(8), 0.0)[0].std(), 1, rtol=1e-3)
