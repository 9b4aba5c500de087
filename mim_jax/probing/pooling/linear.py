"""Linear maps that hand out their parameters, so that a pooling can contract them in another order."""

import math
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from mim_jax.models.initialization import bias_initializer, kernel_initializer
from mim_jax.ops.activations import gelu
from mim_jax.ops.products import affine

Start = str | float
"""How a kernel starts: a name of `initialization.KERNELS`, or the deviation of a normal distribution.

The bias beside a kernel that starts with a deviation starts at zero.
"""

MLP_RATIO = 4


class Linear(nn.Module):
    """Affine map of the last `inputs` axes to `features`, with the parameters of `models.layers.Dense`.

    Attributes:
        features: axes of the output.
        inputs: number of axes that are contracted.
        use_bias: whether a bias is added.
        start: how the parameters start.
    """

    features: tuple[int, ...]
    inputs: int = 1
    use_bias: bool = True
    start: Start = "torch_default"

    @nn.compact
    def parameters(self, *fan_in: int) -> tuple[Float[Array, "..."], Any]:
        """Kernel and bias (or None) for inputs with these axes, without applying them."""
        kernel = self.param("kernel", kernel_start(self.start, self.inputs), fan_in + self.features)
        return kernel, self.param("bias", self._bias_start(fan_in), self.features) if self.use_bias else None

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Maps `[..., *inputs]` to `[..., *features]`."""
        return affine(x, *self.parameters(*x.shape[x.ndim - self.inputs :]), self.inputs)

    def _bias_start(self, fan_in: tuple[int, ...]) -> Any:
        return bias_initializer(self.start, fan_in) if isinstance(self.start, str) else nn.initializers.zeros


def kernel_start(start: Start, inputs: int) -> Any:
    """Initialiser of a kernel whose first `inputs` axes are contracted."""
    return kernel_initializer(start, inputs) if isinstance(start, str) else nn.initializers.normal(start)


class FeedForward(nn.Module):
    """Two linear maps with an exact GELU between, four times as wide inside.

    Attributes:
        start: how the first map starts.
        branch_start: how the second one starts; None for the same.
    """

    start: Start = "torch_default"
    branch_start: Start | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """The output of the branch, without the residual."""
        width = x.shape[-1]
        last = self.start if self.branch_start is None else self.branch_start
        hidden = gelu(Linear((MLP_RATIO * width,), start=self.start, name="fc1")(x))
        return Linear((width,), start=last, name="fc2")(hidden)


def residual_start(deviation: float, layer: int) -> float:
    """Deviation of the last map of a branch of block number `layer`, from 1: smaller by the root of `2 layer`."""
    return deviation / math.sqrt(2 * layer)
