"""What a model expects of its input: size, channels, mean and standard deviation."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Float32, UInt8

from mim_jax.data.imagenet import IMAGENET_MEAN, IMAGENET_STD
from mim_jax.errors import InputError

FAR, FEWEST_GREY_LEVELS = 10, 30
"""Above so many times the largest normalised value, and above so many grey levels, numbers are taken for pixels."""


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

    def check_pixels(self, images: Array | np.ndarray) -> None:
        """Raises InputError unless these are pixels, uint8 `[..., h, w, c]` with the right number of channels."""
        if images.dtype != np.uint8:
            raise InputError(
                f"images are {images.dtype}; pass pixels from 0 to 255 as uint8, which are normalised here"
            )
        if images.ndim < 3 or images.shape[-1] != self.channels:
            raise InputError(self._wrong_shape(images.shape))

    def check_normalised(self, images: Array | np.ndarray) -> None:
        """Raises InputError unless these are normalised images of the right size, `[b, h, w, c]`.

        What no pixel can become by mean and deviation, ten times over, is taken for pixels that are not normalised.
        """
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InputError(f"images are {images.dtype} pixels; pass model.normalise(images)")
        if images.shape[1:] != (*self.image_size, self.channels):
            raise InputError(self._wrong_shape(images.shape))
        if isinstance(images, Tracer):
            return
        possible = max(max(abs(mean), abs(1 - mean)) / std for mean, std in zip(self.mean, self.std))
        largest = float(jnp.abs(jnp.asarray(images)).max()) if images.size else 0.0
        if largest > max(FAR * possible, FEWEST_GREY_LEVELS):
            raise InputError(
                f"images have values up to {largest:g}, far outside what normalised ones have; pass pixels from 0 to "
                "255 as uint8 to model.normalise, and the result here"
            )

    def _wrong_shape(self, shape: tuple[int, ...]) -> str:
        rows, columns = self.image_size
        wanted = f"images have the shape {list(shape)}, but the encoder takes [n, {rows}, {columns}, {self.channels}]"
        if len(shape) == 4 and shape[1] == self.channels != shape[-1]:
            return f"{wanted}: channels come last, pass images.transpose(0, 2, 3, 1)"
        if len(shape) == 3 and shape[-1] == self.channels:
            return f"{wanted}: put an axis of images in front, pass images[None]"
        if len(shape) == 4 and shape[-1] == 1 and self.channels > 1:
            return f"{wanted}: pass grey images in every channel, images.repeat({self.channels}, -1)"
        return wanted


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
