"""RandAugment (Cubuk et al. 2020) in the variant of timm's "rand-m9-mstd0.5-inc1", on uint8 RGB images."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from mim_jax.data.colour import Picture, to_picture
from mim_jax.data.cropping import Pixels

LARGEST_MAGNITUDE = 10.0
PROBABILITY = 0.5
"""Of applying an operation once it is drawn."""

FILL = (124, 116, 104)
"""Colour of what comes from outside the image: the mean of ImageNet."""


def rand_augment(
    image: Pixels,
    rng: np.random.Generator,
    *,
    number: int = 2,
    magnitude: float = 9.0,
    deviation: float = 0.5,
) -> Pixels:
    """Apply operations from `OPERATIONS`, drawn with replacement, each with probability 1/2.

    Args:
        image: RGB.
        rng: all that is random comes from here.
        number: how many operations are drawn.
        magnitude: mean strength of an operation, 0 to 10.
        deviation: standard deviation of the strength, which is drawn anew for every operation and clipped to 0..10.

    Raises:
        InputError: if the image has not three channels.
    """
    picture = to_picture(image, "RandAugment", "set its magnitude to 0 to switch it off")
    for name in rng.choice(list(OPERATIONS), number):
        if rng.random() < PROBABILITY:
            picture = OPERATIONS[name](picture, draw_strength(name, rng, magnitude, deviation))
    return np.asarray(picture)


def draw_strength(name: str, rng: np.random.Generator, magnitude: float, deviation: float) -> float:
    """Strength from 0 to 1, with a random sign for the operations that go both ways."""
    strength = float(np.clip(rng.normal(magnitude, deviation), 0, LARGEST_MAGNITUDE)) / LARGEST_MAGNITUDE
    return -strength if name in TWO_WAY and rng.random() < 0.5 else strength


def posterize(picture: Picture, strength: float) -> Picture:
    """Keep the 4 - int(4 * strength) highest bits; at full strength none, which is black."""
    mask = 256 - 2 ** (4 + int(strength * 4))
    return picture.point([value & mask for value in range(256)] * 3)


def solarize(picture: Picture, strength: float) -> Picture:
    """Invert values from 256 - int(256 * strength) on."""
    return ImageOps.solarize(picture, 256 - int(strength * 256))


def solarize_add(picture: Picture, strength: float) -> Picture:
    """Add int(110 * strength) to values below 128."""
    added = int(strength * 110)
    return picture.point([min(255, value + added) if value < 128 else value for value in range(256)] * 3)


def rotate(picture: Picture, strength: float) -> Picture:
    """Rotate by 30 degrees times the strength, counter-clockwise."""
    return picture.rotate(strength * 30, Image.Resampling.BICUBIC, fillcolor=FILL)


def affine(picture: Picture, *, xy: float = 0.0, x: float = 0.0, yx: float = 0.0, y: float = 0.0) -> Picture:
    """The picture whose pixel (column, row) is that of (column + xy * row + x, row + yx * column + y)."""
    matrix = (1, xy, x, yx, 1, y)
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=FILL)


def _enhance(kind: Callable) -> Callable[[Picture, float], Picture]:
    return lambda picture, strength: kind(picture).enhance(1 + strength * 0.9)


ONE_WAY: dict[str, Callable[[Picture, float], Picture]] = {
    "auto_contrast": lambda picture, strength: ImageOps.autocontrast(picture),
    "equalize": lambda picture, strength: ImageOps.equalize(picture),
    "invert": lambda picture, strength: ImageOps.invert(picture),
    "posterize": posterize,
    "solarize": solarize,
    "solarize_add": solarize_add,
}
"""Operations with a strength from 0 to 1; the first three are always the same."""

TWO_WAY: dict[str, Callable[[Picture, float], Picture]] = {
    "rotate": rotate,
    "colour": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": lambda picture, strength: affine(picture, xy=strength * 0.3),
    "shear_y": lambda picture, strength: affine(picture, yx=strength * 0.3),
    "translate_x": lambda picture, strength: affine(picture, x=strength * 0.45 * picture.width),
    "translate_y": lambda picture, strength: affine(picture, y=strength * 0.45 * picture.height),
}
"""Operations with a strength from -1 to 1; 0 changes nothing."""

OPERATIONS = ONE_WAY | TWO_WAY
"""Name to function of picture and strength."""
