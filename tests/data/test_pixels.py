"""Pictures of every depth: scaled by the white of their type, or refused by name."""

import io

import numpy as np
import pytest
from PIL import Image

from mim_jax.data import CorruptImage, UnsupportedImage, telling
from mim_jax.data.record import decode_image
from mim_jax.errors import InputError
from tests.data.picture_bytes import png, pnm, tiff

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 65536, (9, 7)).astype(np.uint16)
COLOUR = RNG.integers(0, 65536, (9, 7, 4)).astype(np.uint16)


@pytest.fixture(autouse=True)
def _told_anew():
    telling.forget()


def _scaled(values: np.ndarray, white: float) -> np.ndarray:
    eight = np.rint(values.astype(np.float64) * 255 / white).astype(np.uint8)
    return eight if eight.ndim == 3 else np.repeat(eight[..., None], 3, -1)


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


DEEP = {
    "grey PNG": (png(GREY), _scaled(GREY, 65535)),
    "colour PNG": (png(COLOUR[..., :3]), _scaled(COLOUR[..., :3], 65535)),
    "PNG with transparency": (png(COLOUR), _scaled(COLOUR[..., :3], 65535)),
    "grey TIFF": (tiff(GREY), _scaled(GREY, 65535)),
    "grey TIFF, big-endian": (tiff(GREY, ">"), _scaled(GREY, 65535)),
    "grey TIFF, packed": (tiff(GREY, deflate=True), _scaled(GREY, 65535)),
    "grey TIFF whose white is 0": (tiff(GREY, photometric=0), _scaled(65535 - GREY, 65535)),
    "colour TIFF": (tiff(COLOUR[..., :3]), _scaled(COLOUR[..., :3], 65535)),
    "colour TIFF, big-endian": (tiff(COLOUR, ">"), _scaled(COLOUR[..., :3], 65535)),
    "colour TIFF, packed": (tiff(COLOUR[..., :3], ">", deflate=True), _scaled(COLOUR[..., :3], 65535)),
    "float TIFF": (tiff((GREY / 65535).astype(np.float32)), _scaled(GREY, 65535)),
    "float TIFF, big-endian": (tiff((GREY / 65535).astype(np.float32), ">"), _scaled(GREY, 65535)),
    "float TIFF whose white is 0": (
        tiff((GREY / 65535).astype(np.float32), photometric=0),
        _scaled(65535 - GREY, 65535),
    ),
    "PGM of 16 bits": (pnm(GREY, 65535), _scaled(GREY, 65535)),
    "PGM of 10 bits": (pnm(GREY >> 6, 1023), _scaled(GREY >> 6, 1023)),
    "PPM of 10 bits": (pnm(COLOUR[..., :3] >> 6, 1023), _scaled(COLOUR[..., :3] >> 6, 1023)),
    "PGM up to 100": (pnm(GREY % 101, 100), _scaled(GREY % 101, 100)),
    "PFM": (_saved(Image.fromarray((GREY / 65535).astype(np.float32)), "PPM"), _scaled(GREY, 65535)),
    "JPEG 2000 of 16 bits": (_saved(Image.fromarray(GREY), "JPEG2000"), _scaled(GREY, 65535)),
    "one bit": (_saved(Image.fromarray(GREY > 30000), "PNG"), _scaled(GREY > 30000, 1)),
}  # fmt: skip


@pytest.mark.parametrize("kind", DEEP)
def test_a_deep_picture_is_scaled_by_the_white_of_its_type(kind):
    data, wanted = DEEP[kind]
    np.testing.assert_array_equal(decode_image(data, "x"), wanted)


def test_grey_of_16_bits_with_transparency_is_right_to_a_level():
    got = decode_image(png(COLOUR[..., :2]), "x").astype(int)
    assert np.abs(got - _scaled(COLOUR[..., 0], 65535)).max() <= 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(GREY.astype(np.int32)), "x.tif has signed or 32-bit whole numbers.*save it as 8 or 16 bits"),
        (
            tiff(GREY.astype(np.uint32)),
            "x.tif has signed or 32-bit whole numbers.*nobody knows what is black and white",
        ),
        (tiff(GREY.astype(np.int16)), "x.tif has signed or 32-bit"),
        (tiff(GREY.astype(np.int8)), "x.tif has signed or 32-bit"),
        (tiff(GREY.astype(np.float32)), "x.tif has 32-bit floats from .* to .*; 0 to 1 can be read"),
        (tiff(np.full((4, 4), np.nan, np.float32)), "x.tif has 32-bit floats that are not finite"),
        (tiff(GREY / 65535), "x.tif is a TIFF of 64-bit floats, which PIL does not read"),
        (tiff(COLOUR[..., :3].astype(np.float32)), "x.tif is a TIFF of 32-bit floats in 3 channels"),
        (tiff(COLOUR[..., :3], planar=True), "x.tif has channels of more than 8 bits that lie apart"),
    ],
)
def test_pixels_without_a_known_white_are_refused_by_name(data, message):
    with pytest.raises(UnsupportedImage, match=message) as caught:
        decode_image(data, "x.tif")
    assert isinstance(caught.value, InputError) and "\n" not in str(caught.value)
    assert not any(word in str(caught.value).lower() for word in ("corrupt", "damaged", "delete"))


@pytest.mark.parametrize(("data", "cause"), [(b"", "the file is empty"), (b"text", "no picture of a kind")])
def test_what_is_no_picture_is_told_without_an_address_of_memory(data, cause):
    with pytest.raises(CorruptImage, match=f"x cannot be read .*{cause}") as caught:
        decode_image(data, "x")
    assert "0x" not in str(caught.value)


def test_twelve_bits_in_sixteen_are_told_once(caplog):
    for name in ("a.png", "b.png"):
        decode_image(png(GREY >> 4), name)
    assert caplog.text.count("nearly black") == 1 and "a.png has 16 bits and no value above" in caplog.text
    decode_image(png(np.zeros_like(GREY)), "c.png")  # black is black


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_read_and_told_once(kind, caplog):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black", "white")]
    data = _saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert [decode_image(data, name).min() for name in ("a", "b")] == [255, 255]
    assert caplog.text.count("a has several frames") == 1 and "b has" not in caplog.text


def test_a_palette_with_transparency_keeps_its_colours():
    image = Image.fromarray((GREY >> 8).astype(np.uint8)).convert("P")
    data = _saved(image, "PNG", transparency=bytes(range(256)))
    np.testing.assert_array_equal(decode_image(data, "x"), np.asarray(image.convert("RGB")))
