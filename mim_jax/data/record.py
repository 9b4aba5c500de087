"""What every image source gives: records, their names, and the errors for a record that cannot be read."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mim_jax.data.pixels import UnsupportedPixels, open_picture
from mim_jax.errors import InputError

Record = dict[str, Any]
"""`{"image": uint8 array [h, w, c], "label": int}`; the label is -1 where there is none."""


class UnreadableImage(InputError):
    """One record cannot be used; the message names the record and the cause.

    Attributes:
        description: what the source calls the record.
    """

    def __init__(self, description: str, message: str) -> None:
        super().__init__(message)
        self.description = description


class CorruptImage(UnreadableImage):
    """One record cannot be read or decoded."""

    def __init__(self, description: str, cause: Exception) -> None:
        super().__init__(description, f"{description} cannot be read ({type(cause).__name__}: {cause})")


class UnsupportedImage(UnreadableImage):
    """One record is sound, as far as is known, but its pixels are of a kind that is not read."""

    def __init__(self, description: str, cause: UnsupportedPixels) -> None:
        super().__init__(description, f"{description} {cause}")


@runtime_checkable
class Source(Protocol):
    """Images by index: what the pipeline reads from. Indexing is thread-safe and always gives the same record."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every label, in order; empty when the images have no labels."""
        ...

    def __len__(self) -> int:
        """Number of records."""
        ...

    def __getitem__(self, index: int) -> Record:
        """Decoded record number `index`; raises `UnreadableImage` if it cannot be used."""
        ...

    def describe(self, index: int) -> str:
        """Name of a record for messages: its file, or its place in the data set."""
        ...


def decode_image(data: bytes, description: str, mode: str = "RGB") -> UInt8[np.ndarray, "h w c"]:
    """Decode one compressed image with PIL to 8 bits a channel, and convert it to `mode` ("RGB" or "L") as PIL does.

    The EXIF orientation is not applied, as in torchvision's data sets. Raises `CorruptImage` with `description`
    for anything PIL cannot decode, truncated files included, and `UnsupportedImage` for pixels whose black and white
    are not known (`mim_jax.data.pixels`).
    """
    try:
        with open_picture(data, description) as image:
            return picture_array(image, mode)
    except MemoryError:
        raise
    except UnsupportedPixels as error:
        raise UnsupportedImage(description, error) from error
    except Exception as error:  # PIL's decoders raise a dozen types for malformed files
        raise CorruptImage(description, error) from error


def picture_array(image: Image.Image, mode: str) -> UInt8[np.ndarray, "h w c"]:
    """A picture of 8 bits a channel as an array in `mode`, "RGB" or "L"."""
    # PIL's convert copies the picture even when there is nothing to convert.
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[..., None]
