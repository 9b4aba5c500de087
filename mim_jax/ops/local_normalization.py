"""Normalising every pixel by its surroundings: the target of SimMIM on SwinV2."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

VARIANCE_EPSILON = 1e-6


def local_mean_and_deviation(
    images: Float[Array, "b h w c"], window: int
) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
    """Mean and standard deviation of the square of `window` pixels around every pixel, for every channel.

    At the border only the pixels inside the image count. The variance is unbiased, at least 0, and has 1e-6 added under
    the root (SimMIM's code for SwinV2). `window` is odd.
    """
    rows, columns = (_band(size, window) for size in images.shape[1:3])
    count = jnp.asarray(np.outer(rows.sum(1), columns.sum(1)))[:, :, None]

    def total(values: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        return jnp.einsum("yh,bhwc,xw->byxc", rows, values, columns, precision=jax.lax.Precision.HIGHEST)

    mean = total(images) / count
    biased = total(jnp.square(images)) / count - jnp.square(mean)
    variance = jnp.maximum(biased * count / jnp.maximum(count - 1, 1), 0)
    return mean, jnp.sqrt(variance + VARIANCE_EPSILON)


def normalise_locally(images: Float[Array, "b h w c"], window: int) -> Float[Array, "b h w c"]:
    """Every pixel less the mean of its surroundings, over their deviation."""
    mean, deviation = local_mean_and_deviation(images, window)
    return (images - mean) / deviation


def _band(size: int, window: int) -> Float[np.ndarray, "n n"]:
    """1 where two positions are in one window: a box filter along one axis as a matrix."""
    position = np.arange(size)
    return (np.abs(position[:, None] - position) <= window // 2).astype(np.float32)
