"""Where images are cut and how they are resized and mirrored: uint8 arrays, with PIL's resampling."""

import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Pixels = UInt8[np.ndarray, "h w c"]
Resized = UInt8[np.ndarray, "height width c"]
Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
RATIO = (3 / 4, 4 / 3)


def random_resized_crop_box(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Box:
    """Inception's crop: up to ten draws of area and aspect; the largest centre crop within `ratio` if none fits."""
    for _ in range(10):
        crop_height, crop_width = _random_extent(height, width, scale, ratio, rng)
        if 0 < crop_height <= height and 0 < crop_width <= width:
            return random_position(height, width, crop_height, crop_width, rng)
    aspect = min(max(width / height, ratio[0]), ratio[1])
    crop_height, crop_width = min(height, round(width / aspect)), min(width, round(height * aspect))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def one_shot_crop_box(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Box:
    """One draw of area and aspect, clamped to the image."""
    crop_height, crop_width = _random_extent(height, width, scale, ratio, rng)
    crop_height, crop_width = (min(max(crop_height, 1), height), min(max(crop_width, 1), width))
    return random_position(height, width, crop_height, crop_width, rng)


def centre_crop_box(height: int, width: int, crop_height: int, crop_width: int) -> Box:
    """The middle of an image; half pixels round to even, as torchvision's do."""
    return round((height - crop_height) / 2), round((width - crop_width) / 2), crop_height, crop_width


def random_position(height: int, width: int, crop_height: int, crop_width: int, rng: np.random.Generator) -> Box:
    """A box of a given extent, anywhere in the image."""
    top = int(rng.integers(0, height - crop_height, endpoint=True))
    left = int(rng.integers(0, width - crop_width, endpoint=True))
    return top, left, crop_height, crop_width


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


def reflect_border(image: Pixels, padding: int) -> Resized:
    """A border of `padding` pixels on all sides, mirrored without repeating the edge."""
    return np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")


def resize_to_cover(image: Pixels, size: tuple[int, int]) -> Resized:
    """Bicubic resize to the smallest image of the same aspect that covers `size` (height, width).

    For a square that is the shorter side to its side, and the longer one to `int(side * longer / shorter)`.
    """
    (height, width), (rows, columns) = image.shape[:2], size
    if rows * width >= columns * height:
        return resize(image, (rows, int(rows * width / height)))
    return resize(image, (int(columns * height / width), columns))


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
