"""Colour augmentation on PIL pictures, and LUT's three-augment on uint8 arrays."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from mim_jax.data.cropping import Pixels
from mim_jax.errors import InputError

Picture = Image.Image


def to_picture(image: Pixels, purpose: str, remedy: str) -> Picture:
    """A PIL picture in RGB.

    Raises `InputError` if the image has not three channels: `purpose` says what needs them, `remedy` what to do.
    """
    if image.shape[2] != 3:
        raise InputError(f"{purpose} needs images of 3 channels, but this one has {image.shape[2]}: {remedy}.")
    return Image.fromarray(np.ascontiguousarray(image))


def three_augment(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Colour jitter with probability 0.8, then exactly one of grayscale, solarization and blur (DeiT III; LUT).

    Raises `InputError` if the image has not three channels.
    """
    picture = to_picture(image, "Colour augmentation", "choose a transform without it")
    if rng.random() < 0.8:
        picture = colour_jitter(picture, rng)
    return np.asarray(THREE[rng.integers(len(THREE))](picture, rng))


def colour_jitter(
    picture: Picture,
    rng: np.random.Generator,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.2,
    hue: float = 0.1,
) -> Picture:
    """Four changes of colour in random order, as torchvision's `ColorJitter` makes them on PIL pictures.

    Brightness, contrast and saturation are scaled by a factor from U(1 - x, 1 + x); the hue is turned by U(-hue, hue),
    where 1 is the whole colour circle.
    """
    spread = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    amounts = {name: rng.uniform(-value, value) for name, value in spread.items()}
    for k in rng.permutation(len(JITTER)):
        name, change = JITTER[k]
        picture = change(picture, amounts[name])
    return picture


def turn_hue(picture: Picture, turn: float) -> Picture:
    """Add `turn` times the colour circle to the hue, in steps of 1/255 (rounded towards 0) of PIL's 256 hues."""
    steps = int(turn * 255)
    table = [(value + steps) % 256 for value in range(256)] + 2 * list(range(256))
    return picture.convert("HSV").point(table).convert("RGB")


def grayscale(picture: Picture) -> Picture:
    """Luma (ITU-R 601-2) in all three channels."""
    return picture.convert("L").convert("RGB")


def blur(picture: Picture, rng: np.random.Generator) -> Picture:
    """PIL's Gaussian blur with a radius of U(0.1, 2) pixels."""
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 2.0)))


JITTER: tuple[tuple[str, Callable[[Picture, float], Picture]], ...] = (
    ("brightness", lambda picture, amount: ImageEnhance.Brightness(picture).enhance(1 + amount)),
    ("contrast", lambda picture, amount: ImageEnhance.Contrast(picture).enhance(1 + amount)),
    ("saturation", lambda picture, amount: ImageEnhance.Color(picture).enhance(1 + amount)),
    ("hue", turn_hue),
)
"""Names and functions of colour jitter; an amount of 0 changes nothing (hue: but for rounding)."""

THREE: tuple[Callable[[Picture, np.random.Generator], Picture], ...] = (
    lambda picture, rng: grayscale(picture),
    lambda picture, rng: ImageOps.solarize(picture, 128),
    blur,
)
"""What three-augment chooses from."""
