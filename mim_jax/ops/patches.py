"""Images to patch vectors and back."""

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Shaped

Pair = tuple[int, int]

PATCH_VARIANCE_EPSILON = 1e-6


def rows_and_columns(maps: Shaped[Array | np.ndarray, "b h w c"]) -> Pair:
    """Of images or feature maps: how many rows and columns each has."""
    return maps.shape[1], maps.shape[2]


def patch_grid(image_size: Pair, patch_size: Pair) -> Pair:
    """Rows and columns of the patch grid; raises ValueError if the patch does not divide the image."""
    if any(size % patch for size, patch in zip(image_size, patch_size)):
        raise ValueError(
            f"image size {image_size[0]}x{image_size[1]} is not divisible by the patch size "
            f"{patch_size[0]}x{patch_size[1]}; choose a multiple of the patch size"
        )
    return image_size[0] // patch_size[0], image_size[1] // patch_size[1]


def patchify(images: Float[Array, "b h w c"], patch_size: Pair) -> Float[Array, "b n p"]:
    """Cuts images into patches in row-major order; a patch vector runs over (row, column, channel)."""
    patch_grid(rows_and_columns(images), patch_size)
    return rearrange(images, "b (y p) (x q) c -> b (y x) (p q c)", p=patch_size[0], q=patch_size[1])


def unpatchify(patches: Float[Array, "b n p"], grid: Pair, patch_size: Pair) -> Float[Array, "b h w c"]:
    """Inverse of `patchify`."""
    return rearrange(
        patches, "b (y x) (p q c) -> b (y p) (x q) c", y=grid[0], x=grid[1], p=patch_size[0], q=patch_size[1]
    )


def patch_mean_and_deviation(patches: Float[Array, "b n p"]) -> tuple[Float[Array, "b n 1"], Float[Array, "b n 1"]]:
    """Mean and standard deviation of every patch: unbiased variance, 1e-6 added under the root, as MAE."""
    mean = patches.mean(axis=-1, keepdims=True)
    variance = patches.var(axis=-1, keepdims=True, ddof=1)
    return mean, jnp.sqrt(variance + PATCH_VARIANCE_EPSILON)


def normalise_patches(patches: Float[Array, "b n p"]) -> Float[Array, "b n p"]:
    """The normalised-pixel target of MAE (He et al. 2022, section 3)."""
    mean, deviation = patch_mean_and_deviation(patches)
    return (patches - mean) / deviation


def denormalise_patches(normalised: Float[Array, "b n p"], reference: Float[Array, "b n p"]) -> Float[Array, "b n p"]:
    """Puts the mean and deviation of the `reference` patches back, the inverse of `normalise_patches`."""
    mean, deviation = patch_mean_and_deviation(reference)
    return normalised * deviation + mean
