"""Activations of the form x P(x), with a derivative of their own: the exact GELU and its two approximations."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Numbers = Float[Array, "..."]
Curve = Callable[[Numbers], tuple[Numbers, Numbers]]


def _weighted(curve: Curve) -> Callable[[Numbers], Numbers]:
    """x P(x) for a `curve` that gives P(x) and its slope P'(x).

    Computed in float32, returned in the type of `x`. The backward pass keeps the derivative P + x P' in that type.
    """

    @jax.custom_vjp
    def activation(x: Numbers) -> Numbers:
        wide = x.astype(jnp.float32)
        return (wide * curve(wide)[0]).astype(x.dtype)

    def forward(x: Numbers) -> tuple[Numbers, Numbers]:
        wide = x.astype(jnp.float32)
        share, slope = curve(wide)
        return (wide * share).astype(x.dtype), (share + wide * slope).astype(x.dtype)

    def backward(derivative: Numbers, gradient: Numbers) -> tuple[Numbers]:
        return (gradient * derivative,)

    activation.defvjp(forward, backward)
    return activation


def _normal(x: Numbers) -> tuple[Numbers, Numbers]:
    """Distribution function and density of the normal distribution."""
    distribution = 0.5 + 0.5 * jax.lax.erf(x * np.float32(np.sqrt(0.5)))
    return distribution, np.float32(1 / np.sqrt(2 * np.pi)) * jnp.exp(-0.5 * jnp.square(x))


def _logistic(x: Numbers) -> tuple[Numbers, Numbers]:
    """Logistic curve of 1.702 x."""
    share = jax.nn.sigmoid(1.702 * x)
    return share, 1.702 * share * (1 - share)


def _tangent(x: Numbers) -> tuple[Numbers, Numbers]:
    """Half of 1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))."""
    factor = np.float32(np.sqrt(2 / np.pi))
    tangent = jnp.tanh(factor * (x + 0.044715 * x**3))
    return 0.5 * (1 + tangent), 0.5 * (1 - jnp.square(tangent)) * factor * (1 + 3 * 0.044715 * jnp.square(x))


gelu = _weighted(_normal)
"""x times the normal distribution function of x (Hendrycks and Gimpel 2016), by the error function."""

quick_gelu = _weighted(_logistic)
"""x times the logistic function of 1.702 x, as in OpenAI's CLIP."""

gelu_tanh = _weighted(_tangent)
"""GELU by the hyperbolic tangent (Hendrycks and Gimpel 2016, section 2), as in SigLIP."""

ACTIVATIONS: dict[str, Callable[[Numbers], Numbers]] = {
    "gelu": gelu,
    "quick_gelu": quick_gelu,
    "gelu_tanh": gelu_tanh,
}
"""Name of an activation between the layers of an MLP to the function."""
