"""The written derivatives of products are those of their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from mim_jax.ops.products import affine, product


def arguments(inputs, features, dtype=jnp.float32, tokens=(2, 5)):
    shapes = (*tokens, *inputs), (*inputs, *features), features, (*tokens, *features)
    keys = jax.random.split(jax.random.key(0), len(shapes))
    x, kernel, bias, cotangent = (jax.random.normal(key, shape) for key, shape in zip(keys, shapes))
    return x.astype(dtype), kernel, bias, cotangent.astype(dtype)


def plain(x, kernel, bias, inputs):
    """In double precision, by numpy."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    return np.tensordot(x, kernel, inputs) + (0 if bias is None else np.asarray(bias, np.float64))


def plain_gradients(x, kernel, cotangent, inputs):
    x, kernel, cotangent = (np.asarray(a, np.float64) for a in (x, kernel, cotangent))
    tokens, features = x.ndim - inputs, kernel.ndim - inputs
    to_x = np.tensordot(cotangent, kernel, (range(tokens, tokens + features), range(inputs, inputs + features)))
    return to_x, np.tensordot(x, cotangent, (range(tokens), range(tokens))), cotangent.sum(tuple(range(tokens)))


def close(found, wanted, tolerance):
    wanted = np.asarray(wanted)
    error = np.abs(np.asarray(found, np.float64) - wanted).max() / np.abs(wanted).max()
    assert error <= tolerance, error


SHAPES = [((8,), (6,)), ((8,), (3, 2, 4)), ((2, 4), (6,)), ((2, 4), (3, 2))]


@pytest.mark.parametrize("inputs, features", SHAPES)
def test_value_and_gradients_are_those_of_the_definition(inputs, features):
    x, kernel, bias, cotangent = arguments(inputs, features)
    value, gradients = jax.vjp(lambda *a: affine(*a, len(inputs)), x, kernel, bias)
    close(value, plain(x, kernel, bias, len(inputs)), 1e-6)
    for found, wanted in zip(gradients(cotangent), plain_gradients(x, kernel, cotangent, len(inputs))):
        close(found, wanted, 1e-6)


def test_works_without_a_bias_and_without_token_axes():
    x, kernel, _, cotangent = arguments((8,), (6,), tokens=())
    value, gradients = jax.vjp(lambda x, kernel: affine(x, kernel, None), x, kernel)
    close(value, plain(x, kernel, None, 1), 1e-6)
    for found, wanted in zip(gradients(cotangent), plain_gradients(x, kernel, cotangent, 1)):
        close(found, wanted, 1e-6)


def test_in_bfloat16_parameters_get_gradients_that_were_never_rounded():
    x, kernel, bias, cotangent = arguments((8,), (6,), jnp.bfloat16)
    value, gradients = jax.vjp(lambda *a: affine(*a, 1), x, kernel, bias)
    to_x, to_kernel, to_bias = gradients(cotangent)
    assert value.dtype == to_x.dtype == jnp.bfloat16 and to_kernel.dtype == to_bias.dtype == jnp.float32
    rounded = kernel.astype(jnp.bfloat16)
    close(value, plain(x, rounded, bias, 1), 4e-3)
    wanted_x, *wanted = plain_gradients(x, rounded, cotangent, 1)
    close(to_x, wanted_x, 4e-3)
    for found, expected in zip((to_kernel, to_bias), wanted):
        close(found, expected, 1e-6)


def test_runs_under_vmap_scan_and_rematerialisation():
    x, kernel, bias, _ = arguments((8,), (8,))
    kernels = jnp.stack([kernel, 0.5 * kernel])

    def scanned(kernels):
        body = jax.checkpoint(lambda x, kernel: (affine(x, kernel, bias), None))
        return jnp.square(jax.lax.scan(body, x, kernels)[0]).sum()

    def unrolled(kernels):
        return jnp.square(affine(affine(x, kernels[0], bias), kernels[1], bias)).sum()

    close(jax.jit(jax.grad(scanned))(kernels), jax.grad(unrolled)(kernels), 1e-6)
    found = jax.vmap(jax.grad(lambda x, kernel: affine(x, kernel, bias).sum(), argnums=1), (0, None))(x, kernel)
    wanted = jnp.broadcast_to(x.sum(axis=1)[:, :, None], found.shape)
    close(found, wanted, 1e-6)


PATTERNS = [("...ne,...me->...nm", (5, 4), (7, 4)), ("...nm,...me->...ne", (5, 7), (7, 4))]


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-6), (jnp.bfloat16, 4e-3)])
@pytest.mark.parametrize("pattern, first, second", PATTERNS)
def test_batched_product_and_its_derivative_are_those_of_the_definition(pattern, first, second, dtype, tolerance):
    keys = jax.random.split(jax.random.key(0), 3)
    one, other = (jax.random.normal(key, (2, 3, *shape)).astype(dtype) for key, shape in zip(keys, (first, second)))
    wide = [array.astype(jnp.float32) for array in (one, other)]
    expected, expected_gradients = jax.vjp(lambda *a: jnp.einsum(pattern, *a), *wide)
    cotangent = jax.random.normal(keys[2], expected.shape).astype(dtype).astype(jnp.float32)
    value, gradients = jax.vjp(lambda *a: product(*a, pattern), one, other)
    assert value.dtype == jnp.float32
    close(value, expected, 1e-6)
    for found, wanted in zip(gradients(cotangent), expected_gradients(cotangent)):
        assert found.dtype == dtype
        close(found, wanted, tolerance)


def products(jaxpr):
    """Types of the arguments of every product in a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield {variable.aval.dtype for variable in equation.invars}
        for inner in jaxprs_in_params(equation.params):
            yield from products(inner)


def test_precision_holds_for_the_derivative_too():
    def precisely(x, kernel, bias):
        with jax.default_matmul_precision("highest"):
            return two_layers(x, kernel, bias)

    program = jax.make_jaxpr(jax.grad(precisely, argnums=(0, 1, 2)))(*arguments((8,), (8,))[:3])
    highest = str(program).count("Precision.HIGHEST")
    assert highest == 2 * len(list(products(program.jaxpr))) > 0


def two_layers(x, kernel, bias):
    y = affine(x, kernel, bias)
    return product(y, y, "bne,bme->bnm").sum()


def test_every_product_of_a_bfloat16_program_is_of_bfloat16_arguments():
    inputs = arguments((8,), (8,), jnp.bfloat16)[:3]
    program = jax.make_jaxpr(jax.grad(two_layers, argnums=(0, 1, 2)))(*inputs)
    assert list(products(program.jaxpr)) == [{jnp.dtype(jnp.bfloat16)}] * 6


@pytest.mark.parametrize("policy, recomputed", [("checkpoint_dots", 0), ("nothing_saveable", 1)])
def test_rematerialisation_sees_the_products(policy, recomputed):
    function = jax.checkpoint(two_layers, policy=getattr(jax.checkpoint_policies, policy))
    program = jax.jit(jax.grad(function, argnums=(0, 1, 2))).trace(*arguments((8,), (8,))[:3])
    assert len(list(products(program.jaxpr.jaxpr))) == 6 + recomputed
