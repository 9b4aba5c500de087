"""Projector and predictor: small networks on one vector per image."""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from mim_jax.models.layers import Dense, LayerNorm

STATISTICS = "statistics"
"""Name of the Flax collection of running statistics."""

BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.1
LAYER_NORM_EPSILON = 1e-6

NORMS = ("batch", "layer", "none")
ACTIVATIONS = {"relu": nn.relu, "gelu": functools.partial(nn.gelu, approximate=False)}

Statistics = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """What defines a head. The defaults are LUT's.

    Attributes:
        depth: number of linear maps; 0 for none at all.
        hidden: width between them.
        norm: "batch", "layer" or "none", behind every map but the last.
        activation: "relu" or "gelu", behind the norm.
    """

    depth: int = 2
    hidden: int = 4096
    norm: str = "batch"
    activation: str = "relu"

    def __post_init__(self) -> None:
        if self.depth < 0 or self.hidden < 1:
            raise ValueError(
                f"a head needs a depth of 0 or more and a hidden width of 1 or more, not {self.depth} and {self.hidden}"
            )
        for name, choices in (("norm", NORMS), ("activation", tuple(ACTIVATIONS))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} of a head must be one of {', '.join(choices)}, not '{getattr(self, name)}'")

    def outputs(self, width: int) -> tuple[int, ...]:
        """Width behind every linear map of a head on vectors of `width`."""
        return (self.hidden,) * (self.depth - 1) + (width,) * min(self.depth, 1)

    def flops(self, width: int) -> int:
        """FLOPs of a forward pass on one vector, in matrix products."""
        outputs = self.outputs(width)
        return sum(2 * inputs * output for inputs, output in zip((width, *outputs), outputs))

    def initial_statistics(self) -> Statistics:
        """Running statistics of the batch norms before the first update, a new copy every time."""
        if self.norm != "batch":
            return {}
        return {
            f"norm{layer}": {"mean": jnp.zeros(self.hidden), "variance": jnp.ones(self.hidden)}
            for layer in range(self.depth - 1)
        }


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015) in float32, over the whole batch on however many devices it lies.

    The running statistics move towards those of the batch by a tenth; of the variance they take the unbiased one.

    Attributes:
        epsilon: what is added to the variance.
        affine: whether a trained scale and bias follow.
        groups: parts of the batch that are normalised each by itself, as devices do that do not synchronise their
            statistics; the running ones are the first part's.
    """

    epsilon: float = BATCH_NORM_EPSILON
    affine: bool = True
    groups: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"], training: bool) -> Float[Array, "*b d"]:
        """Normalises by the statistics of the batch and updates the running ones, or only by the running ones.

        Every axis but the last counts as the batch. Raises ValueError in training where there is one vector only, or
        where the groups do not divide the batch.
        """
        x, width = x.astype(jnp.float32), x.shape[-1:]
        running_mean = self.variable(STATISTICS, "mean", jnp.zeros, width)
        running_variance = self.variable(STATISTICS, "variance", jnp.ones, width)
        mean, variance = running_mean.value, running_variance.value
        if training:
            parts = _parts(x, self.groups)
            mean, variance, unbiased = jax.vmap(_moments)(parts)
            running_mean.value += BATCH_NORM_MOMENTUM * (mean[0] - running_mean.value)
            running_variance.value += BATCH_NORM_MOMENTUM * (unbiased[0] - running_variance.value)
            inner = (slice(None),) + (None,) * (parts.ndim - 2)
            return self._scaled(
                ((parts - mean[inner]) * jax.lax.rsqrt(variance[inner] + self.epsilon)).reshape(x.shape)
            )
        return self._scaled((x - mean) * jax.lax.rsqrt(variance + self.epsilon))

    def _scaled(self, normed: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        if not self.affine:
            return normed
        scale = self.param("scale", nn.initializers.ones, normed.shape[-1:])
        return normed * scale + self.param("bias", nn.initializers.zeros, normed.shape[-1:])


def _parts(x: Float[Array, "*b d"], groups: int) -> Float[Array, "g *part d"]:
    """The batch in equal parts, one after the other."""
    if groups < 1 or x.shape[0] % groups:
        raise ValueError(
            f"a batch of {x.shape[0]} cannot be normalised in {groups} parts; choose a number that divides it"
        )
    return x.reshape(groups, x.shape[0] // groups, *x.shape[1:])


def _moments(x: Float[Array, "*b d"]) -> tuple[Float[Array, "d"], Float[Array, "d"], Float[Array, "d"]]:
    """Mean, variance and unbiased variance over all axes but the last."""
    axes, batch = tuple(range(x.ndim - 1)), math.prod(x.shape[:-1])
    if batch < 2:
        raise ValueError("batch norm needs two images in a (micro-)batch; enlarge it or give the head another norm")
    mean = x.mean(axis=axes)
    variance = jnp.square(x - mean).mean(axis=axes)
    return mean, variance, variance * batch / (batch - 1)


class ProjectionHead(nn.Module):
    """Linear maps without bias; behind each but the last a norm and an activation.

    All in float32, whatever the encoder computes in: the vectors of a batch differ by little, and a batch norm makes
    the roundings of what they have in common as large as what they differ in.
    """

    config: HeadConfig

    @nn.compact
    def __call__(self, x: Float[Array, "b d"], training: bool = False) -> Float[Array, "b d"]:
        """Maps one vector per image to one of the same width; `training` is for batch norm."""
        x, outputs = x.astype(jnp.float32), self.config.outputs(x.shape[-1])
        for layer, width in enumerate(outputs):
            with jax.default_matmul_precision("highest"):
                x = Dense((width,), use_bias=False, name=f"layer{layer}")(x)
            if layer < len(outputs) - 1:
                x = ACTIVATIONS[self.config.activation](self._normalise(x, f"norm{layer}", training))
        return x

    def _normalise(self, x: Float[Array, "b d"], name: str, training: bool) -> Float[Array, "b d"]:
        if self.config.norm == "batch":
            return BatchNorm(name=name)(x, training)
        return LayerNorm(LAYER_NORM_EPSILON, name=name)(x) if self.config.norm == "layer" else x


def initial_head(head: ProjectionHead, width: int, key: PRNGKeyArray) -> dict[str, Any]:
    """Fresh parameters of a head on vectors of `width`."""
    return head.init(key, jnp.zeros((1, width))).get("params", {})


def apply_head(
    head: ProjectionHead, parameters: dict[str, Any], statistics: Statistics, x: Float[Array, "b d"]
) -> Float[Array, "b d"]:
    """A head's output in evaluation mode."""
    output = head.apply({"params": parameters, STATISTICS: statistics}, x)
    assert isinstance(output, Array)  # as nothing is mutable
    return output


def train_head(
    head: ProjectionHead, parameters: dict[str, Any], statistics: Statistics, x: Float[Array, "b d"]
) -> tuple[Float[Array, "b d"], Statistics]:
    """A head's output in training, and its running statistics after it."""
    variables = {"params": parameters, STATISTICS: statistics}
    output, changed = head.apply(variables, x, training=True, mutable=[STATISTICS])
    return output, changed.get(STATISTICS, {})
