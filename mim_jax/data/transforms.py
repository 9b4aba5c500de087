"""From a decoded image to the model's size: what pre-training, probing and fine-tuning do to uint8 arrays."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mim_jax.data.colour import three_augment
from mim_jax.data.cropping import (
    RATIO,
    RESAMPLING,
    Pixels,
    Resized,
    centre_crop_box,
    crop,
    flip,
    one_shot_crop_box,
    random_position,
    random_resized_crop_box,
    reflect_border,
    resize,
    resize_to_cover,
)
from mim_jax.data.rand_augment import LARGEST_MAGNITUDE, rand_augment
from mim_jax.errors import InputError, nearest

Views = UInt8[np.ndarray, "2 height width c"]


@dataclasses.dataclass(frozen=True)
class Transform:
    """A function from an image of any size to one of the model's size, or to several views of it.

    Attributes:
        name: what messages call it.
        function: `(image, rng) -> image`, pure: the result depends on its arguments only. It is uint8 `[h, w, c]`,
            or `[2, h, w, c]` where the transform makes two views.
        random: whether it draws from the generator; one that does not is also called with None.
    """

    name: str
    function: Callable[[Pixels, Any], UInt8[np.ndarray, "..."]]
    random: bool

    def __call__(self, image: Pixels, rng: np.random.Generator | None = None) -> UInt8[np.ndarray, "..."]:
        return self.function(image, rng)


def make_transform(name: str, *, image_size: tuple[int, int], **options: Any) -> Transform:
    """Make a transform by its name in `TRANSFORMS`; the options are the keyword arguments of its function.

    Raises `InputError` for an unknown name or option, naming the nearest, and for a value out of range.
    """
    function, random = TRANSFORMS[_known(name, list(TRANSFORMS), "transform")]
    allowed = [key for key in inspect.signature(function).parameters if key not in ("image", "rng", "image_size")]
    for key, value in options.items():
        valid, meaning = OPTIONS[_known(key, allowed, f"option of the transform {name!r}")]
        if not valid(value):
            raise InputError(f"{key} of the transform {name!r} must be {meaning}, not {value!r}.")
    return Transform(name, functools.partial(function, image_size=image_size, **options), random)


def none(image: Pixels, rng: np.random.Generator | None = None, *, image_size: tuple[int, int]) -> Resized:
    """The image as it is; raises `InputError` if it has another size."""
    if image.shape[:2] != image_size:
        raise InputError(
            f"The transform 'none' wants images of {image_size[0]}x{image_size[1]} pixels, "
            f"but this one has {image.shape[0]}x{image.shape[1]}: choose another transform or image_size."
        )
    return image


def mae_pretrain(
    image: Pixels,
    rng: np.random.Generator,
    *,
    image_size: tuple[int, int],
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = RATIO,
    flip_probability: float = 0.5,
    interpolation: str = "bicubic",
) -> Resized:
    """Random resized crop and horizontal flip, as MAE pre-trains.

    SimMIM's is the same with `scale=(0.67, 1.0)` and `interpolation="bilinear"`. `scale` is the range of the
    crop's share of the area, `ratio` that of its width over height.
    """
    box = random_resized_crop_box(image.shape[0], image.shape[1], scale, ratio, rng)
    return flip(resize(crop(image, box), image_size, interpolation), flip_probability, rng)


def linear_probe(
    image: Pixels,
    rng: np.random.Generator,
    *,
    image_size: tuple[int, int],
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = RATIO,
    flip_probability: float = 0.5,
) -> Resized:
    """One-shot crop (BYOL's, clamped instead of drawn again) and horizontal flip, as MAE probes linearly."""
    box = one_shot_crop_box(image.shape[0], image.shape[1], scale, ratio, rng)
    return flip(resize(crop(image, box), image_size), flip_probability, rng)


def supervised(
    image: Pixels,
    rng: np.random.Generator,
    *,
    image_size: tuple[int, int],
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = RATIO,
    flip_probability: float = 0.5,
    magnitude: float = 9.0,
) -> Resized:
    """Random resized crop, horizontal flip and RandAugment, as MAE, LUT and SimMIM fine-tune (timm's transform).

    `magnitude` is that of two operations of RandAugment, which needs three channels; 0 switches it off.
    """
    flipped = mae_pretrain(
        image, rng, image_size=image_size, scale=scale, ratio=ratio, flip_probability=flip_probability
    )
    return rand_augment(flipped, rng, magnitude=magnitude) if magnitude else flipped


def random_crop_padded(
    image: Pixels,
    rng: np.random.Generator,
    *,
    image_size: tuple[int, int],
    padding: int = 4,
    flip_probability: float = 0.5,
) -> Resized:
    """Resize to cover the model's size, reflected border, random crop, horizontal flip; usual for CIFAR."""
    padded = reflect_border(resize_to_cover(image, image_size), padding)
    return _random_window(padded, image_size, flip_probability, rng)


def lut_two_views(
    image: Pixels,
    rng: np.random.Generator,
    *,
    image_size: tuple[int, int],
    padding: int = 4,
    flip_probability: float = 0.5,
) -> Views:
    """LUT's two views: two independent draws of `random_crop_padded`, the second with `three_augment`.

    Raises `InputError` if the image has not three channels.
    """
    padded = reflect_border(resize_to_cover(image, image_size), padding)
    first, second = (_random_window(padded, image_size, flip_probability, rng) for _ in range(2))
    return np.stack([first, three_augment(second, rng)])


def evaluation(
    image: Pixels,
    rng: np.random.Generator | None = None,
    *,
    image_size: tuple[int, int],
    crop_fraction: float | None = None,
) -> Resized:
    """Resize to cover `int(size / crop_fraction)` of both sides, centre crop, as MAE evaluates (squares).

    `crop_fraction` is 224 / 256 up to 224 pixels (of the shorter side) and 1 above; 1 keeps images that have the size
    as they are.
    """
    fraction = crop_fraction or (224 / 256 if min(image_size) <= 224 else 1.0)
    resized = resize_to_cover(image, (int(image_size[0] / fraction), int(image_size[1] / fraction)))
    return crop(resized, centre_crop_box(resized.shape[0], resized.shape[1], *image_size))


def _random_window(image: Pixels, size: tuple[int, int], flip_probability: float, rng: np.random.Generator) -> Resized:
    box = random_position(image.shape[0], image.shape[1], size[0], size[1], rng)
    return flip(crop(image, box), flip_probability, rng)


def _known(name: str, names: list[str], kind: str) -> str:
    if name in names:
        return name
    raise InputError(f"{name!r} is no {kind}; {nearest(name, names)}")


def _range(high: float) -> Callable[[Any], bool]:
    return lambda value: len(value) == 2 and 0 < value[0] <= value[1] <= high


TRANSFORMS: dict[str, tuple[Callable[..., Resized | Views], bool]] = {
    "none": (none, False),
    "mae_pretrain": (mae_pretrain, True),
    "linear_probe": (linear_probe, True),
    "supervised": (supervised, True),
    "random_crop_padded": (random_crop_padded, True),
    "lut_two_views": (lut_two_views, True),
    "evaluation": (evaluation, False),
}
"""Name to function, and whether it draws random numbers."""

OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "scale": (_range(1.0), "two numbers 0 < low <= high <= 1"),
    "ratio": (_range(math.inf), "two numbers 0 < low <= high"),
    "flip_probability": (lambda value: 0 <= value <= 1, "a number from 0 to 1"),
    "padding": (lambda value: value >= 0, "a whole number of pixels from 0"),
    "crop_fraction": (lambda value: value is None or 0 < value <= 1, "None or a number above 0, up to 1"),
    "magnitude": (lambda value: 0 <= value <= LARGEST_MAGNITUDE, "a number from 0 (off) to 10"),
    "interpolation": (lambda value: value in RESAMPLING, "'bicubic' or 'bilinear'"),
}
"""Option to its test and the words for it."""
