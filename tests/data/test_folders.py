"""Folders as people have them: splits that may be classes, links, other files, classes without images."""

import os

import numpy as np
import pytest

from mim_jax.data import ArraySource, open_source, telling
from mim_jax.data.labels import with_classes
from mim_jax.errors import InputError
from tests.data.folders import labels, pictures, shown


@pytest.fixture(autouse=True)
def _told_anew():
    telling.forget()


# Splits or classes


@pytest.mark.parametrize("name", ["train", "training", "Train"])
def test_a_folder_named_like_a_split_among_classes_is_asked_about(tmp_path, name):
    pictures(tmp_path, "car/0.png", f"{name}/0.png", "truck/0.png")
    with pytest.raises(
        InputError, match=f"{name}, which could be a split or a class, beside car, truck: give classes:"
    ):
        open_source(tmp_path, "train")
    source = open_source(f"classes:{tmp_path}", "train")
    assert source.class_names == tuple(sorted(["car", name, "truck"])) and len(source) == 3
    assert shown(open_source(f"splits:{tmp_path}", "train"), tmp_path) == [f"{name}/0.png"]


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_named_like_an_evaluation_split_is_asked_about(tmp_path, split):
    pictures(tmp_path, "car/0.png", f"{split}/0.png")
    with pytest.raises(InputError, match=f"it has {split}. If {split} is a class, give classes:"):
        open_source(tmp_path, "train")
    with pytest.raises(InputError, match=f"{split}, which could be a split or a class"):
        open_source(tmp_path, split)
    assert open_source(f"classes:{tmp_path}", "train").class_names == ("car", split)


def test_nested_classes_that_share_nothing_with_a_split_are_asked_about(tmp_path):
    pictures(tmp_path, "car/red/0.png", "train/steam/0.png")
    with pytest.raises(InputError, match="could be a split or a class"):
        open_source(tmp_path, "train")


def test_splits_with_classes_are_splits_and_what_lies_beside_is_told(tmp_path, caplog):
    pictures(tmp_path, "train/a/0.png", "test/a/0.png", "more/0.png", "loose.png")
    (tmp_path / "annotations").mkdir()
    assert shown(open_source(tmp_path, "train"), tmp_path) == ["train/a/0.png"]
    assert "more beside the splits train, test are left out" in caplog.text and "annotations" not in caplog.text
    assert "1 images beside the folders of splits left out, the first is loose.png" in caplog.text
    assert shown(open_source(tmp_path, "more"), tmp_path) == ["more/0.png"]


def test_names_of_splits_in_capitals_are_splits(tmp_path):
    pictures(tmp_path, "Train/a/0.png", "Train/b/0.png", "TEST/b/0.png")
    assert open_source(tmp_path, "train").class_names == ("a", "b")
    assert labels(open_source(tmp_path, "val")) == [1]


@pytest.mark.parametrize("name", ["classes", "splits", "folder", "tfds"])
def test_a_folder_may_have_the_name_of_a_prefix(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path, f"{name}/0.png")
    assert len(open_source(name, "train")) == 1


def test_a_split_of_one_image_is_read(tmp_path):
    pictures(tmp_path, "train/a/0.png")
    assert labels(open_source(tmp_path, "train")) == [0]


# Classes


def test_classes_without_images_count_and_are_named(tmp_path, caplog):
    pictures(tmp_path, "a/0.png", "c/0.png")
    (tmp_path / "b").mkdir()
    source = open_source(tmp_path, "train")
    assert source.class_names == ("a", "b", "c") and labels(source) == [0, 2]
    assert "1 of 3 classes have no images, and count all the same: b" in caplog.text


def test_classes_that_differ_by_case_are_two_and_told(tmp_path, caplog):
    pictures(tmp_path, "Cat/0.png", "cat/0.png")
    assert open_source(tmp_path, "train").class_names == ("Cat", "cat")
    assert "classes whose names differ by case only: Cat and cat" in caplog.text


def test_splits_without_a_training_folder_are_numbered_alike(tmp_path):
    pictures(tmp_path, "one/a/0.png", "one/b/0.png", "one/c/0.png", "two/b/0.png", "two/c/0.png", "three/d/0.png")
    one, two, three = (open_source(tmp_path, split) for split in ("one", "two", "three"))
    assert labels(two) == [0, 1]
    alike = with_classes(two, one.class_names, "two")
    assert labels(alike) == [1, 2] and alike.class_names == ("a", "b", "c")
    with pytest.raises(InputError, match="three has the class 'd', which training lacks: it has a, b, c"):
        with_classes(three, one.class_names, "three")
    arrays = ArraySource(np.zeros((2, 4, 4, 1), np.uint8), np.array([1, 0]), ("c", "a"))
    assert labels(with_classes(arrays, one.class_names, "x")) == [0, 2]


# What is left out


def test_what_is_left_out_is_counted_in_one_line(tmp_path, caplog):
    pictures(tmp_path, "a/0.png", "a/1.PGM", "b/2.jfif", "a/.3.png", "a/__MACOSX/4.png", "b/._2.jfif")
    for name in ("a/5.heic", "a/6.HEIC", "b/Thumbs.db", "b/readme"):
        (tmp_path / name).touch()
    (tmp_path / "b/gone.png").symlink_to(tmp_path / "nowhere.png")
    assert shown(open_source(tmp_path, "train"), tmp_path) == ["a/0.png", "a/1.PGM", "b/2.jfif"]
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith(f"{tmp_path}: 8 files or folders left out: 3 hidden, 2 .heic, ")
    for kind in ("1 .db", "1 without an ending", "1 links that lead nowhere"):
        assert kind in message
    open_source(tmp_path, "train")
    assert len(caplog.records) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_not_opened(tmp_path):
    pictures(tmp_path, "a/0.png")
    os.mkfifo(tmp_path / "a/pipe.png")
    assert len(open_source(tmp_path, "train")) == 1


# Links


@pytest.mark.parametrize("target", [".", "..", "../..", "/", "../b", "nested"])
def test_every_picture_comes_once_whatever_links_there_are(tmp_path, target, caplog):
    pictures(tmp_path, "train/a/0.png", "train/a/nested/1.png", "train/b/2.png")
    (tmp_path / "train/a/all").symlink_to(target)
    source = open_source(tmp_path, "train")
    assert shown(source, tmp_path) == ["train/a/0.png", "train/a/nested/1.png", "train/b/2.png"]
    assert "1 links to folders that are read already" in caplog.text


def test_links_to_other_folders_are_followed_once(tmp_path):
    pictures(tmp_path, "train/a/0.png", "elsewhere/1.png", "elsewhere/deeper/2.png")
    (tmp_path / "elsewhere/back").symlink_to("../train")
    for link in ("train/c", "train/a/again"):
        (tmp_path / link).symlink_to(tmp_path / "elsewhere")
    source = open_source(tmp_path, "train")
    assert shown(source, tmp_path) == ["train/a/0.png", "train/c/1.png", "train/c/deeper/2.png"]
    assert labels(source) == [0, 1, 1]


def test_a_link_to_a_picture_is_a_picture(tmp_path):
    pictures(tmp_path, "store/blob.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/0.png").symlink_to(tmp_path / "store/blob.png")
    assert len(open_source(tmp_path / "data", "train")) == 1


def test_a_source_says_what_it_is(tmp_path):
    pictures(tmp_path, "a/0.png", "b/0.png")
    assert repr(open_source(tmp_path, "train")).endswith("from " + str(tmp_path / "a/0.png") + " on, 2 classes: a, b)")
    assert repr(open_source("digits", "test")) == "ArraySource(digits/test: 360 images of 8x8x1, 10 classes)"
