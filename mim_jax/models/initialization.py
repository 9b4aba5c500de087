"""How parameters start: the distributions of the original implementations."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, PRNGKeyArray

Initializer = Callable[..., Array]


def _xavier_uniform(inputs: int) -> Initializer:
    """Glorot's uniform initialiser for a kernel whose first `inputs` axes are contracted."""

    def initialize(key: PRNGKeyArray, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        axes = tuple(range(len(shape)))
        scaling = nn.initializers.variance_scaling(
            1.0, "fan_avg", "uniform", in_axis=axes[:inputs], out_axis=axes[inputs:]
        )
        return scaling(key, shape, dtype)

    return initialize


def _normal(inputs: int) -> Initializer:
    """Normal with deviation 0.02; the originals truncate it at +-2, a hundred deviations away."""
    return nn.initializers.normal(0.02)


def _normal_of(deviation: float) -> Callable[[int], Initializer]:
    return lambda inputs: nn.initializers.normal(deviation)


def _truncated_at_sigma(inputs: int) -> Initializer:
    """Normal with deviation 0.02 cut off at +-0.02, as in SimMIM's pre-training of a ViT."""
    return lambda key, shape, dtype=jnp.float32: 0.02 * jax.random.truncated_normal(key, -1.0, 1.0, shape, dtype)


def _torch_default(inputs: int) -> Initializer:
    """Uniform within one over the root of the fan-in: what torch gives a layer that nobody initialises."""

    def initialize(key: PRNGKeyArray, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        bound = math.prod(shape[:inputs]) ** -0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialize


KERNELS: dict[str, Callable[[int], Initializer]] = {
    "xavier_uniform": _xavier_uniform,
    "normal": _normal,
    "truncated_at_sigma": _truncated_at_sigma,
    "torch_default": _torch_default,
    "fine_tuned_head": _normal_of(2e-5),
    "probed_head": _normal_of(0.01),
    "xavier_uniform_convolution": _xavier_uniform,
}
"""Name to initialiser; each is called with the number of leading axes that are contracted.

The head of a classifier starts with a deviation of 2e-5 in fine-tuning (MAE, LUT, and SimMIM, which says 0.02 times
0.001), of 0.01 in MAE's linear probe, and of 0.02 ("normal") in training from scratch.
"""

_UNIFORM_BIAS = ("torch_default", "xavier_uniform_convolution")
"""Those whose bias is torch's uniform one; MAE resets the kernel of its patch embedding and leaves the bias."""


def kernel_initializer(name: str, inputs: int) -> Initializer:
    """Initialiser of a kernel whose first `inputs` axes are contracted."""
    return KERNELS[name](inputs)


def bias_initializer(name: str, fan_in: tuple[int, ...]) -> Initializer:
    """Initialiser of the bias beside a kernel."""
    if name not in _UNIFORM_BIAS:
        return nn.initializers.zeros
    bound = math.prod(fan_in) ** -0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def token_initializer(kernel_init: str) -> Initializer:
    """Initialiser of class, register and mask tokens: as the kernels where they are cut off, else normal."""
    return KERNELS["truncated_at_sigma" if kernel_init == "truncated_at_sigma" else "normal"](0)
