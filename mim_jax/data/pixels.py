"""Pixels of any depth as 8 bits: scaled by the white of their type, or refused where that is not known."""

import io
import sys

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from mim_jax.data.telling import tell

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
WIDE_IN_32_BITS = ("PPM", "PNG")
"""Formats whose pictures of up to 16 bits PIL gives as 32-bit numbers from 0 to 65535."""

DEPTH, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT = 258, 262, 284, 339
"""Tags of TIFF: bits of a sample, whether 0 is white, whether channels lie apart, the kind of number."""

KINDS = {1: "whole numbers", 2: "signed numbers", 3: "floats"}
SIGNED, WHITE_IS_ZERO, APART = 2, 0, 2

SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""Order of bytes to the other one."""

COLOURS_OF_16_BITS = tuple(f"{mode};16{order}" for mode in ("RGB", "RGBX", "RGBA") for order in SWAPPED)

ADVICE = "save it as 8 or 16 bits a channel, unsigned"
NO_WHITE = f"has signed or 32-bit whole numbers, of which nobody knows what is black and white; {ADVICE}"


class UnsupportedPixels(ValueError):
    """Pixels whose black and white are not known; the message goes on behind the name of the picture."""


def open_picture(data: bytes, name: str) -> Image.Image:
    """The first frame of an encoded picture, with 8 bits a channel.

    Raises UnsupportedPixels for pixels that cannot be scaled, and what PIL raises for what it cannot decode.
    """
    image = _opened(data)
    _tell_frames(image, name)
    if image.tile and all(_raw_mode(tile.args) in COLOURS_OF_16_BITS for tile in image.tile):
        _check_tiff(image)
        return _colour_of_16_bits(image, data, name)
    return eight_bits(image, name)


def eight_bits(image: Image.Image, name: str) -> Image.Image:
    """A picture with 8 bits a channel or less, itself if it is one.

    Grey of 16 bits is `round(255 * value / 65535)`, floats are `round(255 * value)`. Raises UnsupportedPixels for
    floats outside 0..1, for numbers of 32 bits and for signed ones.
    """
    _check_tiff(image)
    if image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format in WIDE_IN_32_BITS):
        return _grey_of_16_bits(image, name)
    if image.mode == "I":
        raise UnsupportedPixels(NO_WHITE)
    if image.mode == "F":
        return _grey_of_floats(image)
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        return image.convert("RGBA")  # straight to RGB gives the same colours, and a warning
    return image


def _tiff_tag(image: Image.Image, tag: int, default: int) -> int:
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return max(value, default=default) if isinstance(value, tuple) else value


def _check_tiff(image: Image.Image) -> None:
    """PIL takes signed bytes for unsigned ones, and the wrong bytes where channels of 16 bits lie apart."""
    if _tiff_tag(image, SAMPLE_FORMAT, 1) == SIGNED:
        raise UnsupportedPixels(NO_WHITE)
    if _tiff_tag(image, PLANAR, 1) == APART and _tiff_tag(image, DEPTH, 8) > 8:
        raise UnsupportedPixels("has channels of more than 8 bits that lie apart (planar); save it interleaved")


def _grey_of_16_bits(image: Image.Image, name: str) -> Image.Image:
    white = 4095 if _tiff_tag(image, DEPTH, 16) == 12 else 65535
    values = np.asarray(image).astype(np.uint32)
    if _tiff_tag(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO:
        values = white - values
    _tell_darkness(values, white, name)
    return Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))


def _tell_darkness(values: np.ndarray, white: int, name: str) -> None:
    if white == 65535 and 0 < values.max() < 4096:
        tell(
            f"{name} has 16 bits and no value above {values.max()}: white is 65535 all the same, so it is nearly "
            "black; if such pictures hold 10 or 12 bits, save them scaled to 16",
            once_for="dark pictures of 16 bits",
        )


def _grey_of_floats(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise UnsupportedPixels("has 32-bit floats that are not finite; fill them in, and save it as 8 or 16 bits")
    low, high = values.min(), values.max()
    if low < 0 or high > 1:
        raise UnsupportedPixels(
            f"has 32-bit floats from {low:g} to {high:g}; 0 to 1 can be read: scale it, or save it as 8 or 16 bits"
        )
    if _tiff_tag(image, PHOTOMETRIC, 1) == WHITE_IS_ZERO:
        values = 1 - values
    return Image.fromarray(np.rint(values * 255.0).astype(np.uint8))


def _raw_mode(args: object) -> object:
    return args[0] if isinstance(args, tuple) and args else args


def _colour_of_16_bits(image: ImageFile.ImageFile, data: bytes, name: str) -> Image.Image:
    """Rounded, where PIL keeps the upper bytes: read once more with the bytes of every value in the other order."""
    upper = np.asarray(image)
    lower = _opened(data)
    lower.tile = [tile._replace(args=_in_other_order(tile.args or ())) for tile in lower.tile]
    values = _joined(upper, np.asarray(lower)).astype(np.uint32)
    _tell_darkness(values, 65535, name)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _in_other_order(args: str | tuple[object, ...]) -> str | tuple[object, ...]:
    mode = str(_raw_mode(args))
    other = mode[:-1] + SWAPPED[mode[-1]]
    return (other, *args[1:]) if isinstance(args, tuple) else other


def _joined(upper: UInt8[np.ndarray, "h w c"], lower: UInt8[np.ndarray, "h w c"]) -> UInt16[np.ndarray, "h w c"]:
    return upper.astype(np.uint16) << 8 | lower


def _tell_frames(image: Image.Image, name: str) -> None:
    if image.format != "MPO" and getattr(image, "is_animated", False):
        tell(f"{name} has several frames or pages: the first stands for it, as in all such files", "frames")


def _opened(data: bytes) -> ImageFile.ImageFile:
    if not data:
        raise EOFError("the file is empty")
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        if known := _tiff_kind(data):
            raise UnsupportedPixels(f"is a TIFF of {known}, which PIL does not read; {ADVICE}") from error
        raise UnidentifiedImageError("no picture of a kind that PIL knows") from error


def _tiff_kind(data: bytes) -> str:
    """What a TIFF holds by its tags; nothing for what is no TIFF, or has no whole head."""
    try:
        head = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(head.next)
        head.load(file)
        depths, kinds = head[DEPTH], head.get(SAMPLE_FORMAT, (1,))
    except Exception:  # tags are read without any check
        return ""
    channels = f" in {len(depths)} channels" if len(depths) > 1 else ""
    return f"{depths[0]}-bit {KINDS.get(kinds[0], 'numbers')}{channels}"
