"""From a decoded image to the model's size: crops, resizing and flips on uint8 arrays, with PIL's resampling."""

import dataclasses
import difflib
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mim_jax.errors import InputError

Pixels = UInt8[np.ndarray, "h w c"]
Resized = UInt8[np.ndarray, "height width c"]
Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
RATIO = (3 / 4, 4 / 3)


@dataclasses.dataclass(frozen=True)
class Transform:
    """A function from an image of any size to one of the model's size.

    Attributes:
        name: what messages call it.
        function: `(image, rng) -> image`, pure: the result depends on its arguments only.
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
    if function in (evaluation, random_crop_padded) and image_size[0] != image_size[1]:
        raise InputError(f"The transform {name!r} makes square images; image_size is {image_size}.")
    return Transform(name, functools.partial(function, image_size=image_size, **options), random)


def none(image: Pixels, rng: Any = None, *, image_size: tuple[int, int]) -> Resized:
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


def random_crop_padded(
    image: Pixels,
    rng: np.random.Generator,
    *,
    image_size: tuple[int, int],
    padding: int = 4,
    flip_probability: float = 0.5,
) -> Resized:
    """Shorter side to the model's size, reflected border, random crop, horizontal flip.

    The usual augmentation of CIFAR, and the geometric part of LUT's two views.
    """
    border = ((padding, padding), (padding, padding), (0, 0))
    padded = np.pad(resize_shorter_side(image, image_size[0]), border, mode="reflect")
    box = _random_position(padded.shape[0], padded.shape[1], image_size[0], image_size[1], rng)
    return flip(crop(padded, box), flip_probability, rng)


def evaluation(
    image: Pixels, rng: Any = None, *, image_size: tuple[int, int], crop_fraction: float | None = None
) -> Resized:
    """Shorter side to `int(size / crop_fraction)`, centre crop, as MAE evaluates.

    `crop_fraction` is 224 / 256 up to 224 pixels and 1 above; 1 keeps images that have the size as they are.
    """
    size = image_size[0]
    fraction = crop_fraction or (224 / 256 if size <= 224 else 1.0)
    resized = resize_shorter_side(image, int(size / fraction))
    return crop(resized, centre_crop_box(resized.shape[0], resized.shape[1], size, size))


def random_resized_crop_box(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Box:
    """Inception's crop: up to ten draws of area and aspect; the largest centre crop within `ratio` if none fits."""
    for _ in range(10):
        crop_height, crop_width = _random_extent(height, width, scale, ratio, rng)
        if 0 < crop_height <= height and 0 < crop_width <= width:
            return _random_position(height, width, crop_height, crop_width, rng)
    aspect = min(max(width / height, ratio[0]), ratio[1])
    crop_height, crop_width = min(height, round(width / aspect)), min(width, round(height * aspect))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def one_shot_crop_box(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Box:
    """One draw of area and aspect, clamped to the image."""
    crop_height, crop_width = _random_extent(height, width, scale, ratio, rng)
    crop_height, crop_width = (min(max(crop_height, 1), height), min(max(crop_width, 1), width))
    return _random_position(height, width, crop_height, crop_width, rng)


def centre_crop_box(height: int, width: int, crop_height: int, crop_width: int) -> Box:
    """The middle of an image; half pixels round to even, as torchvision's do."""
    return round((height - crop_height) / 2), round((width - crop_width) / 2), crop_height, crop_width


def crop(image: Pixels, box: Box) -> Resized:
    """The pixels of a box."""
    top, left, height, width = box
    return image[top : top + height, left : left + width]


def flip(image: Pixels, probability: float, rng: np.random.Generator) -> Resized:
    """Mirror left and right with a probability."""
    if rng.random() >= probability:
        return image
    # Channel by channel: to copy a mirrored picture three bytes at a time takes several times as long.
    return np.stack([image[:, ::-1, k] for k in range(image.shape[2])], axis=-1)


def resize_shorter_side(image: Pixels, size: int) -> Resized:
    """Bicubic resize of the shorter side to `size`, of the longer to `int(size * longer / shorter)`."""
    height, width = image.shape[:2]
    shorter = min(height, width)
    return resize(image, (int(size * height / shorter), int(size * width / shorter)))


def resize(image: Pixels, size: tuple[int, int], interpolation: str = "bicubic") -> Resized:
    """PIL's antialiased resampling to (height, width), rounded to uint8 as PIL does."""
    if image.shape[:2] == size:
        return image
    if image.shape[2] == 3:
        return _pil_resize(image, size, interpolation)
    # Channel by channel: PIL would weight colours by a fourth channel taken for transparency.
    return np.stack([_pil_resize(image[..., k], size, interpolation) for k in range(image.shape[2])], axis=-1)


def _pil_resize(image: UInt8[np.ndarray, "h w *c"], size: tuple[int, int], interpolation: str) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize(size[::-1], RESAMPLING[interpolation]))


def _random_extent(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int]:
    area = height * width * rng.uniform(*scale)
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    return round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))


def _random_position(height: int, width: int, crop_height: int, crop_width: int, rng: np.random.Generator) -> Box:
    top = int(rng.integers(0, height - crop_height, endpoint=True))
    left = int(rng.integers(0, width - crop_width, endpoint=True))
    return top, left, crop_height, crop_width


def _known(name: str, names: list[str], kind: str) -> str:
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}."
    raise InputError(f"{name!r} is no {kind}; {hint}")


def _range(high: float) -> Callable[[Any], bool]:
    return lambda value: len(value) == 2 and 0 < value[0] <= value[1] <= high


TRANSFORMS: dict[str, tuple[Callable[..., Resized], bool]] = {
    "none": (none, False),
    "mae_pretrain": (mae_pretrain, True),
    "linear_probe": (linear_probe, True),
    "random_crop_padded": (random_crop_padded, True),
    "evaluation": (evaluation, False),
}
"""Name to function, and whether it draws random numbers."""

OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "scale": (_range(1.0), "two numbers 0 < low <= high <= 1"),
    "ratio": (_range(math.inf), "two numbers 0 < low <= high"),
    "flip_probability": (lambda value: 0 <= value <= 1, "a number from 0 to 1"),
    "padding": (lambda value: value >= 0, "a whole number of pixels from 0"),
    "crop_fraction": (lambda value: value is None or 0 < value <= 1, "None or a number above 0, up to 1"),
    "interpolation": (lambda value: value in RESAMPLING, "'bicubic' or 'bilinear'"),
}
"""Option to its test and the words for it."""
