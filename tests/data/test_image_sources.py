"""Folders, list files, the digits, and the name that opens them."""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mim_jax.data import ArraySource, CorruptImage, open_source
from mim_jax.data.record import decode_image
from mim_jax.errors import InputError


def _picture(path: Path, value: int = 0, size: tuple[int, int] = (7, 5)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def _names(source, root: Path) -> list[str]:
    return [os.path.relpath(source.describe(i), root) for i in range(len(source))]


def _labels(source) -> list[int]:
    return [source[i]["label"] for i in range(len(source))]


# Folders


def test_a_class_folder_is_a_label_in_sorted_order(tmp_path):
    for name in ("train/b/2.png", "train/a/1.PNG", "train/a/nested/0.png", "train/b/.hidden.png", "train/b/notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            _picture(tmp_path / name)
    source = open_source(str(tmp_path), "train")
    assert _names(source, tmp_path) == ["train/a/1.PNG", "train/a/nested/0.png", "train/b/2.png"]
    assert _labels(source) == [0, 0, 1]
    assert source.class_names == ("a", "b")


@pytest.mark.parametrize("extension", "jpg jpeg png bmp webp ppm tif tiff gif JPG Jpeg PNG".split())
def test_every_extension_is_read(tmp_path, extension):
    _picture(tmp_path / f"0.{extension}", 9)
    record = open_source(str(tmp_path), "train")[0]
    assert record["image"].shape == (5, 7, 3) and record["image"].dtype == np.uint8
    assert record["label"] == -1


def test_without_split_folders_the_root_is_the_training_split(tmp_path):
    _picture(tmp_path / "cat/0.png"), _picture(tmp_path / "dog/0.png")
    assert open_source(f"folder:{tmp_path}", "train").class_names == ("cat", "dog")


@pytest.mark.parametrize("layout", ["", "train"])
def test_a_flat_folder_has_no_labels(tmp_path, layout):
    _picture(tmp_path / layout / "1.png"), _picture(tmp_path / layout / "0.png")
    source = open_source(str(tmp_path), "train")
    assert [Path(name).name for name in _names(source, tmp_path)] == ["0.png", "1.png"]
    assert _labels(source) == [-1, -1] and source.class_names == ()


@pytest.mark.parametrize(
    ("asked", "present", "used"),
    [
        ("val", ["train", "val", "test"], "val"),
        ("val", ["train", "validation", "test"], "validation"),
        ("val", ["train", "test"], "test"),
        ("validation", ["train", "val", "valid"], "val"),
        ("test", ["train", "val", "test"], "test"),
        ("test", ["train", "val"], "val"),
        ("train", ["training", "val"], "training"),
        ("extra", ["train", "extra"], "extra"),
    ],
)
def test_a_split_is_the_first_of_its_folders(tmp_path, asked, present, used):
    for name in present:
        _picture(tmp_path / name / "0.png")
    assert _names(open_source(str(tmp_path), asked), tmp_path) == [f"{used}/0.png"]


def test_evaluation_labels_are_numbered_as_in_training(tmp_path):
    for name in ("train/a/0.png", "train/b/0.png", "train/c/0.png", "val/c/0.png", "tenth/b/0.png"):
        _picture(tmp_path / name)
    assert _labels(open_source(str(tmp_path), "val")) == [2]
    assert _labels(open_source(str(tmp_path), "tenth")) == [1]
    assert open_source(str(tmp_path), "val").class_names == ("a", "b", "c")


def test_an_evaluation_class_unknown_to_training_is_refused(tmp_path):
    _picture(tmp_path / "train/a/0.png"), _picture(tmp_path / "val/b/0.png")
    with pytest.raises(InputError, match="val has class folders that the training split lacks: b"):
        open_source(str(tmp_path), "val")


def test_linked_class_folders_are_followed(tmp_path):
    _picture(tmp_path / "elsewhere/0.png")
    (tmp_path / "data/a").mkdir(parents=True)
    (tmp_path / "data/a/link").symlink_to(tmp_path / "elsewhere")
    assert _names(open_source(str(tmp_path / "data"), "train"), tmp_path) == ["data/a/link/0.png"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="image folder .*nowhere does not exist"):
        open_source(f"folder:{tmp_path}/nowhere", "train")


def test_a_folder_without_images_is_named_with_what_was_looked_for(tmp_path):
    (tmp_path / "train/empty").mkdir(parents=True)
    (tmp_path / "train/readme.txt").write_text("none here")
    with pytest.raises(InputError, match=r"No images in .*train: looked for .bmp .gif .jpeg .jpg"):
        open_source(str(tmp_path), "train")


def test_a_missing_split_tells_what_was_looked_for_and_what_is_there(tmp_path):
    _picture(tmp_path / "train/0.png")
    message = r"no folder for the split 'val': looked for val, valid, validation, test, testing; it has train\."
    with pytest.raises(InputError, match=message):
        open_source(str(tmp_path), "val")


def test_a_folder_with_only_evaluation_splits_is_not_taken_for_classes(tmp_path):
    _picture(tmp_path / "val/a/0.png")
    with pytest.raises(InputError, match="no folder for the split 'train': looked for train, training; it has val"):
        open_source(str(tmp_path), "train")


def test_images_beside_class_folders_are_refused(tmp_path):
    _picture(tmp_path / "a/0.png"), _picture(tmp_path / "stray.png")
    with pytest.raises(InputError, match="images beside class folders, stray.png beside a/0.png"):
        open_source(str(tmp_path), "train")


def test_listing_many_files_keeps_only_their_paths(tmp_path):
    for k in range(3):
        (tmp_path / f"class{k}").mkdir()
        for i in range(300):
            (tmp_path / f"class{k}/{i}.jpg").touch()
    source = open_source(str(tmp_path), "train")
    assert len(source) == 900 and source.labels.tolist() == [0] * 300 + [1] * 300 + [2] * 300


# Decoding


def _gradient(mode: str) -> Image.Image:
    gray = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    return Image.merge("RGB", [gray, gray.rotate(90), gray.rotate(180)]).convert(mode)


@pytest.mark.parametrize(
    ("mode", "extension"),
    [("L", "png"), ("1", "png"), ("P", "png"), ("LA", "png"), ("RGBA", "png"), ("RGB", "png")]
    + [
        ("CMYK", "jpg"),
        ("L", "jpg"),
        ("P", "gif"),
        ("YCbCr", "jpg"),
        ("LA", "tiff"),
        ("CMYK", "tiff"),
        ("LAB", "tiff"),
    ],
)
def test_every_mode_becomes_rgb_as_pil_converts_it(tmp_path, mode, extension):
    file = tmp_path / f"0.{extension}"
    _gradient(mode).save(file)
    image = open_source(str(tmp_path), "train")[0]["image"]
    with Image.open(file) as opened:
        np.testing.assert_array_equal(image, np.asarray(opened.convert("RGB")))
    assert image.shape == (16, 16, 3) and image.dtype == np.uint8


def test_gray_images_have_one_channel_where_asked_for():
    file = io.BytesIO()
    _gradient("L").save(file, "PNG")
    assert decode_image(file.getvalue(), "x", "L").shape == (16, 16, 1)


def test_the_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.new("RGB", (7, 5)).save(tmp_path / "0.jpg", exif=exif)
    assert open_source(str(tmp_path), "train")[0]["image"].shape == (5, 7, 3)


@pytest.mark.parametrize("extension", ["jpg", "png", "gif", "bmp", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_a_truncated_file_is_corrupt(tmp_path, extension, share):
    file = tmp_path / f"0.{extension}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(CorruptImage, match=f"0.{extension} cannot be read") as caught:
        open_source(str(tmp_path), "train")[0]
    assert caught.value.description == str(file)


def test_a_vanished_file_is_corrupt(tmp_path):
    source = open_source(str(_picture(tmp_path / "0.png").parent), "train")
    (tmp_path / "0.png").unlink()
    with pytest.raises(CorruptImage, match="FileNotFoundError"):
        source[0]


# List files


def test_a_list_file_gives_paths_and_labels(tmp_path):
    for name in ("a.png", "with space.png", "in/b 2.png"):
        _picture(tmp_path / name)
    absolute = tmp_path / "a.png"
    lines = ["a.png 0", "with space.png 2", "in/b 2.png\t1", "", f"{absolute}\t3"]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    source = open_source(str(tmp_path / "list.txt"), "train")
    assert _names(source, tmp_path) == ["a.png", "with space.png", "in/b 2.png", "a.png"]
    assert _labels(source) == [0, 2, 1, 3] and source.class_names == ("0", "1", "2", "3")


def test_a_list_file_without_labels(tmp_path):
    for name in ("./a.png", "with 2 spaces.png"):
        _picture(tmp_path / name)
    (tmp_path / "list.txt").write_text("./a.png\nwith 2 spaces.png\n")
    source = open_source("list.txt", "train", data_dir=str(tmp_path))
    assert _labels(source) == [-1, -1] and source.class_names == ()


def test_a_list_file_per_split(tmp_path):
    _picture(tmp_path / "a.png"), _picture(tmp_path / "b.png")
    (tmp_path / "train.txt").write_text("a.png")
    (tmp_path / "val.txt").write_text("b.png")
    assert _names(open_source(f"{tmp_path}/{{split}}.txt", "val"), tmp_path) == ["b.png"]


@pytest.mark.parametrize(
    ("content", "split", "message"),
    [
        (None, "train", "list.txt does not exist"),
        (" \n\n", "train", "list.txt is empty"),
        ("a.png 0\na.png cat", "train", "list.txt, line 2: the label 'cat' is not a whole number"),
        ("a.png -1", "train", "label '-1' is not a whole number"),
        ("a.png 0\na.png", "train", "with and without a label; .*a.png has none"),
        ("b.png 0", "train", "names .*b.png first, which does not exist"),
        ("a.png 0", "val", "serves the split 'train' only, not 'val'.*{split}"),
    ],
)
def test_a_bad_list_file_is_one_sentence(tmp_path, content, split, message):
    _picture(tmp_path / "a.png")
    if content is not None:
        (tmp_path / "list.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        open_source(str(tmp_path / "list.txt"), split)


# Digits and arrays


def test_the_digits_are_split_once_and_for_all():
    train, test = open_source("digits", "train"), open_source("digits", "test")
    assert (len(train), len(test)) == (1437, 360)
    assert np.bincount(test.labels).tolist() == [36, 36, 36, 36, 37, 36, 36, 36, 35, 36]
    assert np.bincount(train.labels).tolist() == [142, 146, 141, 147, 144, 146, 145, 143, 139, 144]
    digest = hashlib.sha256(train.images.tobytes() + test.images.tobytes() + test.labels.tobytes()).hexdigest()
    assert digest[:16] == "9040d3dc880805a4"


def test_the_digits_are_scikit_learns_scaled_to_bytes():
    from sklearn.datasets import load_digits

    images = np.concatenate([open_source("digits", split).images for split in ("train", "test")])
    counts = np.bincount(load_digits().images.astype(int).ravel(), minlength=17)
    scaled = [round(v * 255 / 16) for v in range(17)]
    assert images.shape == (1797, 8, 8, 1) and images.dtype == np.uint8
    assert {v: n for v, n in enumerate(np.bincount(images.ravel())) if n} == dict(zip(scaled, counts, strict=True))


def test_the_digits_know_their_splits():
    assert open_source("digits", "val").describe(3) == "record 3 of digits/test"
    with pytest.raises(InputError, match="digits have no split 'dev'; use 'train' or 'test'"):
        open_source("digits", "dev")


def test_arrays_need_a_label_per_image():
    images = np.zeros((3, 4, 4, 1), np.uint8)
    with pytest.raises(InputError, match="3 images and 2 labels"):
        ArraySource(images[:3], np.zeros(2, np.int32))


# Names


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digts", "none of 'digits'.*no folder .*digts. Did you mean 'digits'"),
        ("/no/such/folder", "no folder /no/such/folder"),
    ],
)
def test_an_unknown_source_is_one_sentence(source, message):
    with pytest.raises(InputError, match=message):
        open_source(source, "train")


def test_relative_paths_start_at_the_data_directory(tmp_path):
    _picture(tmp_path / "mine/a/0.png")
    assert len(open_source("mine", "train", data_dir=str(tmp_path))) == 1
