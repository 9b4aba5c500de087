"""What every image source gives: records, their names, and the one error for a record that cannot be read."""

import io
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Record = dict[str, Any]
"""`{"image": uint8 array [h, w, c], "label": int}`; the label is -1 where there is none."""


class CorruptImage(Exception):
    """One record cannot be read or decoded; the message names the record and the cause."""

    def __init__(self, description: str, cause: Exception) -> None:
        super().__init__(f"{description} cannot be read ({type(cause).__name__}: {cause})")
        self.description = description


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
        """Decoded record number `index`; raises `CorruptImage` if it cannot be read."""
        ...

    def describe(self, index: int) -> str:
        """Name of a record for messages: its file, or its place in the data set."""
        ...


def decode_image(data: bytes, description: str, mode: str = "RGB") -> UInt8[np.ndarray, "h w c"]:
    """Decode one compressed image with PIL and convert it to `mode` ("RGB" or "L") as PIL does.

    The EXIF orientation is not applied, as in torchvision's data sets. Raises `CorruptImage` with `description`
    for anything PIL cannot decode, truncated files included.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            # PIL's convert copies the picture even when there is nothing to convert.
            pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    except MemoryError:
        raise
    except Exception as error:  # PIL's decoders raise a dozen types for malformed files
        raise CorruptImage(description, error) from error
    return pixels if pixels.ndim == 3 else pixels[..., None]
