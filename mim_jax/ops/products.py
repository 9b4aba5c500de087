"""Products that sum in float32, with derivatives of their own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Parameter = Float[Array | np.ndarray, "..."]
"""Parameters that a program has compiled in may be numpy's."""

Axes = tuple[tuple[int, ...], tuple[int, ...]]

Precision = str | None
"""JAX's name of the precision of products; None is the backend's own."""

Saved = tuple[Float[Array, "..."], Parameter, Parameter | None]
Two = tuple[Float[Array, "..."], Float[Array, "..."]]


def affine(
    x: Float[Array, "..."],
    kernel: Parameter,
    bias: Parameter | None,
    inputs: int = 1,
    result: DTypeLike | None = None,
) -> Float[Array, "..."]:
    """Contracts the last `inputs` axes of `x` with the first ones of `kernel`, and adds a bias unless it is None.

    Computed in the type of `x`, with sums in float32, and rounded to the type `result`, by default that of `x`.

    The derivative is written out so that both of its products are in the type of `x`, while the parameters, whatever
    theirs, get gradients that were never rounded to that. Tokens are laid along one axis first: the kernel's gradient
    wants them transposed, and XLA on a CPU does that, fused with what comes before, much faster on two axes.
    """
    return _affine(x, kernel, bias, inputs, jnp.dtype(result or x.dtype), _precision())


def _precision() -> Precision:
    # Asked for where a product is written down, so that it holds for the derivative too.
    return jax.config.jax_default_matmul_precision  # ty: ignore[missing-attribute]: JAX makes it at run time


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _affine(
    x: Float[Array, "..."],
    kernel: Parameter,
    bias: Parameter | None,
    inputs: int,
    result: jnp.dtype,
    precision: Precision,
) -> Float[Array, "..."]:
    return _affine_forward(x, kernel, bias, inputs, result, precision)[0]


def _contract(one: Parameter, other: Parameter, axes: Axes, precision: Precision) -> Float[Array, "..."]:
    """Contracts axes of two arrays with each other, in float32."""
    return jax.lax.dot_general(one, other, (axes, ((), ())), precision=precision, preferred_element_type=jnp.float32)


def _affine_forward(
    x: Float[Array, "..."],
    kernel: Parameter,
    bias: Parameter | None,
    inputs: int,
    result: jnp.dtype,
    precision: Precision,
) -> tuple[Float[Array, "..."], Saved]:
    tokens, features = x.shape[: x.ndim - inputs], kernel.shape[inputs:]
    x = x.reshape(-1, *kernel.shape[:inputs])
    axes = tuple(range(1, 1 + inputs)), tuple(range(inputs))
    outcome = _contract(x, kernel.astype(x.dtype), axes, precision)
    outcome = (outcome if bias is None else outcome + bias).astype(result)
    return outcome.reshape(*tokens, *features), (x, kernel, bias)


def _affine_backward(
    inputs: int, _: jnp.dtype, precision: Precision, saved: Saved, gradient: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."] | None]:
    x, kernel, bias = saved
    features = kernel.shape[inputs:]
    tokens, gradient = gradient.shape[: gradient.ndim - len(features)], gradient.reshape(-1, *features)
    to_bias = None if bias is None else gradient.astype(jnp.float32).sum(0).astype(bias.dtype)
    gradient = gradient.astype(x.dtype)
    axes = tuple(range(1, gradient.ndim)), tuple(range(inputs, kernel.ndim))
    to_x = _contract(gradient, kernel.astype(x.dtype), axes, precision)
    # XLA on a CPU has no bfloat16 product with several axes of features, so it gets float32 there.
    wide = jnp.float32 if len(features) > 1 and jax.default_backend() == "cpu" else x.dtype
    to_kernel = _contract(x.astype(wide), gradient.astype(wide), ((0,), (0,)), precision)
    return to_x.astype(x.dtype).reshape(*tokens, *x.shape[1:]), to_kernel.astype(kernel.dtype), to_bias


_affine.defvjp(_affine_forward, _affine_backward)


def product(one: Float[Array, "..."], other: Float[Array, "..."], pattern: str) -> Float[Array, "..."]:
    """`einsum(pattern, one, other)` in float32, whatever type both have.

    Every letter of the pattern stands in two of its three parts at least. The derivative is written out so that its
    products, too, are in the type of the arguments: by itself it would multiply one of them in float32.
    """
    return _product(one, other, pattern, _precision())


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _product(
    one: Float[Array, "..."], other: Float[Array, "..."], pattern: str, precision: Precision
) -> Float[Array, "..."]:
    return jnp.einsum(pattern, one, other, precision=precision, preferred_element_type=jnp.float32)


def _product_forward(
    one: Float[Array, "..."], other: Float[Array, "..."], pattern: str, precision: Precision
) -> tuple[Float[Array, "..."], Two]:
    return _product.fun(one, other, pattern, precision), (one, other)


def _product_backward(pattern: str, precision: Precision, saved: Two, gradient: Float[Array, "..."]) -> Two:
    one, other = saved
    first, second, result = pattern.replace("->", ",").split(",")
    to_one = _product.fun(gradient.astype(other.dtype), other, f"{result},{second}->{first}", precision)
    to_other = _product.fun(one, gradient.astype(one.dtype), f"{first},{result}->{second}", precision)
    return to_one.astype(one.dtype), to_other.astype(other.dtype)


_product.defvjp(_product_forward, _product_backward)
