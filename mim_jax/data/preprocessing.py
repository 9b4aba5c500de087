"""What a model expects of its input: size, channels, mean and standard deviation."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, UInt8

from mim_jax.data.imagenet import IMAGENET_MEAN, IMAGENET_STD
from mim_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Input of a model.

    Attributes:
        image_size: height and width in pixels.
        channels: number of channels.
        mean: mean of each channel, with pixels in 0..1.
        std: standard deviation of each channel, with pixels in 0..1.
    """

    image_size: tuple[int, int] = (224, 224)
    channels: int = 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if min(*self.image_size, self.channels) < 1:
            raise InputError(f"Image size {self.image_size} and channels {self.channels} must be positive.")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise InputError(f"mean {self.mean} and std {self.std} need {self.channels} numbers each, one per channel.")
        if min(self.std) <= 0:
            raise InputError(f"std {self.std} must be positive.")


def normalise(
    images: UInt8[Array, "*b h w c"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float32[Array, "*b h w c"]:
    """Pixels 0..255 to `(x / 255 - mean) / std` per channel, also of several views; runs on the device, in the step."""
    return (images.astype(jnp.float32) / 255 - jnp.array(mean, jnp.float32)) / jnp.array(std, jnp.float32)


def denormalise(
    images: Float[Array, "*b h w c"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float32[Array, "*b h w c"]:
    """The inverse of `normalise`, in 0..1; a reconstruction may lie outside."""
    return images.astype(jnp.float32) * jnp.array(std, jnp.float32) + jnp.array(mean, jnp.float32)
