"""Attention and its softmax against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.ops.attention import attention, softmax, split_heads


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def plain_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 4, 7)])
def test_softmax_and_its_derivative_are_those_of_the_definition(shape):
    logits, cotangent = 10 * normal(0, *shape), normal(1, *shape)
    value, gradient = jax.vjp(softmax, logits)
    expected = plain_softmax(logits)
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-7)
    inner = (expected * np.asarray(cotangent)).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(gradient(cotangent)[0], expected * (cotangent - inner), rtol=1e-5, atol=1e-6)


def test_softmax_of_large_and_of_absent_logits_stays_finite():
    logits = jnp.asarray([[1e4, 1e4, -1e4], [0.0, -jnp.inf, 0.0]])
    value, gradient = jax.vjp(softmax, logits)
    np.testing.assert_array_equal(value, [[0.5, 0.5, 0], [0.5, 0, 0.5]])
    np.testing.assert_array_equal(gradient(jnp.ones((2, 3)))[0], np.zeros((2, 3)))


def plain_attention(query, key, value, scale, bias):
    logits = jnp.einsum("...ne,...me->...nm", query, key) * scale
    return jnp.einsum("...nm,...me->...ne", jax.nn.softmax(logits if bias is None else logits + bias), value)


@pytest.mark.parametrize("axes", [(2,), (2, 3)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_attention_and_its_derivatives_are_those_of_the_definition(axes, with_bias):
    heads, queries, keys, width = 2, 5, 7, 4
    arrays = [normal(seed, *axes, heads, tokens, width) for seed, tokens in enumerate((queries, keys, keys))]
    bias = normal(3, heads, queries, keys) if with_bias else None
    cotangent = normal(4, *axes, heads, queries, width)
    ours, our_gradients = jax.vjp(lambda *a: attention(*a[:3], scale=0.5, bias=a[3]), *arrays, bias)
    expected, expected_gradients = jax.vjp(lambda *a: plain_attention(*a[:3], 0.5, a[3]), *arrays, bias)
    np.testing.assert_allclose(ours, expected, rtol=2e-6, atol=1e-6)
    for found, wanted in zip(our_gradients(cotangent), expected_gradients(cotangent)):
        if wanted is not None:
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)


def test_bfloat16_attention_has_its_logits_and_softmax_in_float32():
    query, key, value = (normal(seed, 1, 2, 5, 4).astype(jnp.bfloat16) for seed in range(3))
    program = str(jax.make_jaxpr(lambda *a: attention(*a, scale=0.5))(query, key, value))
    assert "exp" in program and not any("bf16" in line for line in program.splitlines() if " exp " in line)
    assert attention(query, key, value, scale=0.5).dtype == jnp.bfloat16


@pytest.mark.parametrize("axes", [(2,), (2, 3)])
def test_splitting_heads_and_its_derivative_are_those_of_the_slices(axes):
    def sliced(projected):
        return tuple(projected[..., part, :, :].swapaxes(-3, -2) for part in range(3))

    projected = normal(0, *axes, 5, 3, 2, 4)
    cotangents = tuple(normal(seed, *axes, 2, 5, 4) for seed in range(1, 4))
    (ours, our_gradient), (expected, gradient) = (jax.vjp(function, projected) for function in (split_heads, sliced))
    for found, wanted in zip((*ours, *our_gradient(cotangents)), (*expected, *gradient(cotangents))):
        np.testing.assert_array_equal(found, wanted)
