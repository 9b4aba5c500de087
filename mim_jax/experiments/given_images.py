"""Images that are given in a notebook: arrays, pictures or paths become a source, where it is sure what they are."""

from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from mim_jax.data.arrays import ArraySource
from mim_jax.data.folder import ImageFiles
from mim_jax.data.labels import number_labels
from mim_jax.data.pixels import UnsupportedPixels, eight_bits
from mim_jax.data.preprocessing import Preprocessing
from mim_jax.data.record import Source, picture_array
from mim_jax.data.sources import open_source
from mim_jax.data.telling import tell
from mim_jax.errors import InputError
from mim_jax.paths import local_path

NAME = "the images given"
WANTED = (
    "pass uint8 pixels [n, h, w, c], a list of PIL pictures, arrays or paths, or what mim_jax.open_source opens: "
    "a folder, a list file, 'digits'"
)


def given_source(images: object, labels: object, split: str, expected: Preprocessing) -> Source:
    """A source over what was given; `split` of what is opened by its name.

    Raises InputError for what is not sure to be pixels, or in which order, and for labels that do not belong to images
    that were given one by one.
    """
    if isinstance(images, (str, Path, Source)):
        if labels is not None:
            raise InputError("labels go with images that are given one by one; a folder, list or source has its own")
        return images if isinstance(images, Source) else open_source(images, split)
    listed = list(images) if isinstance(images, (list, tuple)) else None
    if listed == []:
        raise InputError(f"the list of images is empty; {WANTED}")
    if listed and isinstance(listed[0], (str, Path)):
        return ImageFiles([_existing(path) for path in listed], *_numbered(labels, len(listed)))
    if listed:
        pictures = [_one(number, image, expected) for number, image in enumerate(listed)]
        return ArraySource(pictures, *_numbered(labels, len(pictures)), NAME)
    pixels = _batch(_array(images), expected)
    return ArraySource(pixels, *_numbered(labels, len(pixels)), NAME)


def fit(source: Source, size: tuple[int, int]) -> bool:
    """Whether images were given in the encoder's size already; otherwise says that they are cropped."""
    if not isinstance(source, ArraySource) or source.name != NAME:
        return False
    sizes = sorted({image.shape[:2] for image in source.images})
    if sizes == [tuple(size)]:
        return True
    of = f"of {sizes[0][0]}x{sizes[0][1]}" if len(sizes) == 1 else "of several sizes"
    tell(f"images {of} are resized and cropped as in evaluation, to {size[0]}x{size[1]}")
    return False


def _existing(path: object) -> str:
    if not isinstance(path, (str, Path)):
        raise InputError(f"the list of images has paths and others, such as a {type(path).__name__}; give one kind")
    full = local_path(path)
    if not full.is_file():
        raise InputError(f"there is no image {full}")
    return str(full)


def _one(number: int, image: object, expected: Preprocessing) -> UInt8[np.ndarray, "h w c"]:
    try:
        if not isinstance(image, Image.Image):
            return _batch(_array(image)[None], expected)[0]
        if expected.channels not in (1, 3):
            raise InputError(f"pictures have 1 or 3 channels, but the encoder takes {expected.channels}; pass arrays")
        return picture_array(eight_bits(image, f"image {number}"), "L" if expected.channels == 1 else "RGB")
    except UnsupportedPixels as error:
        raise InputError(f"image {number} {error}") from error
    except (InputError, OSError, SyntaxError) as error:  # the last two are PIL's, for files that it reads only now
        raise InputError(f"image {number} of the list: {error}") from error


def _array(images: object) -> np.ndarray:
    if not hasattr(images, "__array__"):
        raise InputError(f"images are of the type {type(images).__name__}; {WANTED}")
    try:
        return np.asarray(images)
    except (TypeError, ValueError, RuntimeError) as error:  # such as an array on another framework's device
        reason = str(error).split("\n")[0]
        raise InputError(f"images of the type {type(images).__name__} cannot be made NumPy arrays: {reason}") from error


def _batch(array: np.ndarray, expected: Preprocessing) -> UInt8[np.ndarray, "b h w c"]:
    pixels = _pixels(array)
    channels = expected.channels
    if pixels.ndim == 3 and channels == 1 and pixels.shape[-1] != 1:
        return pixels[..., None]
    first, last = (pixels.shape[axis] == channels if pixels.ndim == 4 else False for axis in (1, -1))
    if first and last:
        raise InputError(f"images {list(pixels.shape)} could have their channels first or last; pass PIL pictures")
    if last:
        return pixels
    if first:
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    raise InputError(_wrong_shape(pixels.shape, channels))


def _wrong_shape(shape: tuple[int, ...], channels: int) -> str:
    wrong = f"images have the shape {list(shape)}, but the encoder takes [n, h, w, {channels}]"
    if len(shape) == 3 and channels in (shape[0], shape[-1]):
        return f"{wrong}: for one image pass images[None]"
    if len(shape) == 3 or (len(shape) == 4 and 1 in (shape[1], shape[-1])):
        return f"{wrong}: repeat grey images in every channel, or give PIL pictures"
    if len(shape) == 4 and shape[-1] == channels + 1:
        return f"{wrong}: leave the transparency out, images[..., :{channels}]"
    return wrong


def _pixels(array: np.ndarray) -> UInt8[np.ndarray, "..."]:
    """Whole numbers from 0 to 255 as uint8; of anything else nobody knows what is black and white."""
    if not array.size or array.dtype.kind not in "uif":
        raise InputError(f"images are {array.dtype} of the shape {list(array.shape)}; {WANTED}")
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        raise InputError(_floats(array.dtype, float(low), float(high)))
    if low < 0 or high > 255:
        raise InputError(f"images are {array.dtype} from {low} to {high}; pass pixels scaled to 0..255, as uint8")
    if high == 1:
        tell("no pixel of the images is above 1, of 255: all of them are nearly black")
    return array.astype(np.uint8)


def _floats(kind: np.dtype, low: float, high: float) -> str:
    given = f"images are {kind} from {low:.4g} to {high:.4g}"
    if not np.isfinite([low, high]).all():
        return f"{given}; pass finite pixels from 0 to 255, as uint8"
    if low < 0:
        return f"{given}, as normalised ones are; pass the pixels from before, 0 to 255, as uint8"
    recipe = "(255 * images).round().astype('uint8')" if high <= 1 else "images.round().astype('uint8')"
    return f"{given}; pass pixels from 0 to 255 as uint8" + (f", such as {recipe}" if high <= 255 else "")


def _numbered(labels: object, count: int) -> tuple[Int32[np.ndarray, " b"], tuple[str, ...]]:
    if labels is None:
        return np.full(count, -1, np.int32), ()
    given = np.asarray(labels)
    if given.shape != (count,):
        raise InputError(f"labels have the shape {list(given.shape)}, but there are {count} images; give one for each")
    whole = given.dtype.kind in "ui" and not (given < 0).any()
    if not whole and not all(isinstance(label, str) and label.strip() for label in given.tolist()):
        raise InputError(f"labels must be whole numbers from 0, or names, not {given.tolist()[0]!r} ({given.dtype})")
    return number_labels([str(label) for label in given.tolist()], "labels")
