"""Images and labels that are given to `mim_jax.analyze`: what is sure is taken, all else is asked about."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import mim_jax
from mim_jax.data import telling
from mim_jax.data.preprocessing import Preprocessing
from mim_jax.errors import InputError
from mim_jax.experiments.given_images import fit, given_source
from mim_jax.experiments.settings import Settings, resolve
from tests.data.folders import pictures
from tests.experiments.encoders import tiny_model

COLOUR = Preprocessing((8, 8))
GREY = Preprocessing((8, 8), 1, (0.5,), (0.5,))
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def _told_anew():
    telling.forget()


def _images(given, expected=COLOUR, labels=None):
    source = given_source(given, labels, "train", expected)
    return [source[i]["image"] for i in range(len(source))]


class OnAnotherDevice:
    """What other frameworks' arrays do."""

    def __array__(self, *arguments, **options):
        raise TypeError("copy it to the host first\nand more")


@pytest.mark.parametrize(
    "given",
    [
        PIXELS,
        jnp.asarray(PIXELS),
        PIXELS.astype(np.int64),
        PIXELS.transpose(0, 3, 1, 2),
        list(PIXELS),
        [Image.fromarray(pixels) for pixels in PIXELS],
        [jnp.asarray(pixels).transpose(2, 0, 1) for pixels in PIXELS],
    ],
    ids=["numpy", "jax", "integers", "channels first", "list", "pictures", "list of channels first"],
)
def test_pixels_are_taken_in_every_form_that_is_sure(given):
    np.testing.assert_array_equal(_images(given), PIXELS)


@pytest.mark.parametrize("given", [PIXELS[..., 0], PIXELS[..., :1], PIXELS[..., 0][:, None], list(PIXELS[..., 0])])
def test_grey_pixels_are_taken_with_and_without_an_axis_of_channels(given):
    np.testing.assert_array_equal(_images(given, GREY), PIXELS[..., :1])


def test_pictures_have_the_channels_of_the_encoder_and_their_depth():
    grey = Image.fromarray(np.array([[0, 257], [65535, 32896]], np.uint16))
    assert _images([grey, grey])[0][..., 1].tolist() == [[0, 1], [255, 128]]
    assert _images([grey], GREY)[0].shape == (2, 2, 1)
    assert _images([Image.fromarray(PIXELS[0]).convert("RGBA")])[0].shape == (8, 8, 3)


def test_paths_in_a_list_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path, "a.png", "b.png")
    source = given_source(["a.png", tmp_path / "b.png"], ["cat", "dog"], "train", COLOUR)
    assert source.files == [str(tmp_path / "a.png"), str(tmp_path / "b.png")] and source.class_names == ("cat", "dog")
    assert len(given_source(tmp_path, None, "train", COLOUR)) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (PIXELS / np.float32(255), r"float32 from .* to 1; .*such as \(255 \* images\).round\(\).astype\('uint8'\)"),
        (PIXELS.astype(np.float64), r"float64 from .* to 255; .*such as images.round\(\).astype\('uint8'\)"),
        (jnp.asarray(PIXELS / 127.5 - 1, jnp.bfloat16), "images are bfloat16|as normalised ones are"),
        (PIXELS / 127.5 - 1, "as normalised ones are; pass the pixels from before"),
        (np.full((2, 8, 8, 3), np.nan), "pass finite pixels"),
        (PIXELS.astype(np.uint16) * 257, "uint16 from .* to 65535; pass pixels scaled to 0..255"),
        (PIXELS > 100, "images are bool"),
        (PIXELS[..., 0], r"shape \[4, 8, 8\].*repeat grey images in every channel"),
        (PIXELS[..., :1], "repeat grey images in every channel"),
        (PIXELS[0], r"for one image pass images\[None\]"),
        (np.zeros((2, 8, 8, 4), np.uint8), "leave the transparency out"),
        (np.zeros((2, 3, 8, 3), np.uint8), "could have their channels first or last"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"uint8 of the shape \[0, 8, 8, 3\]"),
        ([], "the list of images is empty"),
        ([Image.fromarray(PIXELS[0]), "a.png"], "image 1 of the list: images are of the type str"),
        (["/no/such.png"], "there is no image /no/such.png"),
        ([PIXELS[0], PIXELS[0] / 255], "image 1 of the list: images are float64 from 0 to 1"),
        ([Image.fromarray(np.full((2, 2), 7e4, np.int32))], "image 0 has signed or 32-bit whole numbers"),
        (7, "images are of the type int; pass uint8 pixels"),
        ((image for image in PIXELS), "images are of the type generator"),
        (OnAnotherDevice(), "cannot be made NumPy arrays: copy it to the host first$"),
    ],
)
def test_what_is_not_sure_is_one_sentence(given, message):
    with pytest.raises(InputError, match=message) as caught:
        given_source(given, None, "train", COLOUR)
    assert "\n" not in str(caught.value)


def test_a_picture_whose_file_ends_early_is_named():
    file = io.BytesIO()
    Image.fromarray(PIXELS[0]).resize((64, 64)).save(file, "PNG")
    with pytest.raises(InputError, match="image 0 of the list: .*truncated"):
        given_source([Image.open(io.BytesIO(file.getvalue()[:200]))], None, "train", COLOUR)


def test_pixels_that_are_nearly_black_are_told(caplog):
    given_source(PIXELS // 255, None, "train", COLOUR)
    assert "no pixel of the images is above 1, of 255" in caplog.text


def test_another_size_is_told(caplog):
    assert fit(given_source(PIXELS, None, "train", COLOUR), (8, 8)) and not caplog.text
    assert not fit(given_source(PIXELS, None, "train", COLOUR), (4, 4))
    assert "images of 8x8 are resized and cropped as in evaluation, to 4x4" in caplog.text
    assert not fit(given_source([PIXELS[0], PIXELS[0, :5]], None, "train", COLOUR), (8, 8))
    assert "images of several sizes" in caplog.text


@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        (["cat", "dog", "cat", "dog"], [0, 1, 0, 1], ("cat", "dog")),
        (np.array(["b", "a", "b", "a"]), [1, 0, 1, 0], ("a", "b")),
        ([5, 999999999, 5, 7], [0, 2, 0, 1], ("5", "7", "999999999")),
        (jnp.array([0, 1, 2, 1]), [0, 1, 2, 1], ("0", "1", "2")),
        (None, [-1] * 4, ()),
    ],
)
def test_labels_are_numbers_or_names(labels, numbers, names):
    source = given_source(PIXELS, labels, "train", COLOUR)
    assert [source[i]["label"] for i in range(4)] == numbers and source.class_names == names


@pytest.mark.parametrize(
    ("given", "labels", "message"),
    [
        (PIXELS, [0, 1], r"labels have the shape \[2\], but there are 4 images"),
        (PIXELS, "cat", r"labels have the shape \[\]"),
        (PIXELS, [0, 1, -1, 0], "labels must be whole numbers from 0, or names"),
        (PIXELS, [0.0, 1.0, 1.0, 0.0], "labels must be whole numbers from 0, or names, not 0.0"),
        (PIXELS, ["cat", None, "dog", "cat"], "labels must be whole numbers"),
        (PIXELS, ["cat", 1, "dog", 2], "labels: the label 'cat' is not a whole number, but others are"),
        ("digits", [0, 1], "labels go with images that are given one by one"),
    ],
)
def test_labels_that_do_not_fit_are_one_sentence(given, labels, message):
    with pytest.raises(InputError, match=message):
        given_source(given, labels, "train", COLOUR)


def test_too_few_images_and_a_missing_model_are_told():
    with pytest.raises(InputError, match="gets 1 images; an interval needs two"):
        mim_jax.analyze(tiny_model(channels=3), PIXELS[:1])
    with pytest.raises(InputError, match="no/such.pth"):
        mim_jax.analyze("/no/such.pth", PIXELS)


def test_settings_print_what_is_not_at_its_default():
    assert repr(Settings()) == "Settings at their defaults"
    method = {"name": "lut", "mask_ratio": 0.5, "lut": {"momentum": 0.9}}
    settings = resolve({"method": method, "data": {"source": "mine"}})
    assert repr(settings).splitlines() == [
        "Settings, all else at its default",
        "  method: name='lut', mask_ratio=0.5, lut.momentum=0.9",
        "  data: source='mine'",
    ]
