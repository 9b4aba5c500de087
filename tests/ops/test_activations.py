"""The exact GELU against its definition in double precision."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.ops.activations import gelu

POINTS = np.linspace(-6, 6, 241)


def distribution(x):
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])


def slope(x):
    return distribution(x) + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def value_and_slope(x):
    value, gradient = jax.vjp(gelu, x)
    return value, gradient(jnp.ones_like(x))[0]


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-6), (jnp.bfloat16, 1e-2)])
def test_value_and_derivative_are_those_of_the_definition(dtype, tolerance):
    x = jnp.asarray(POINTS, dtype)
    exact = np.asarray(x, np.float64)
    for found, wanted in zip(value_and_slope(x), (exact * distribution(exact), slope(exact))):
        assert found.dtype == dtype
        np.testing.assert_allclose(np.asarray(found, np.float64), wanted, rtol=tolerance, atol=tolerance)


def test_equals_the_gelu_of_jax_and_its_derivative():
    x = jnp.asarray(POINTS, jnp.float32)
    value, gradient = jax.vjp(lambda x: jax.nn.gelu(x, approximate=False), x)
    for found, wanted in zip(value_and_slope(x), (value, gradient(jnp.ones_like(x))[0])):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_far_values_stay_finite():
    x = jnp.asarray([-1e30, -1e4, 0.0, 1e4, 1e30])
    value, gradient = value_and_slope(x)
    np.testing.assert_array_equal(value, np.maximum(x, 0))
    np.testing.assert_array_equal(gradient, [0, 0, 0.5, 1, 1])


def test_runs_under_vmap_scan_and_rematerialisation():
    x = jnp.asarray(POINTS, jnp.float32)
    body = jax.checkpoint(lambda x, _: (gelu(x), None))
    scanned = jax.jit(jax.grad(lambda x: jax.lax.scan(body, x, None, length=2)[0].sum()))
    np.testing.assert_allclose(scanned(x), jax.vmap(jax.grad(lambda x: gelu(gelu(x))))(x), rtol=1e-6, atol=1e-6)
