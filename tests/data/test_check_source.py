"""What is known of a source from names of files: without JAX, and the same as opening it says."""

import subprocess
import sys

import pytest

from mim_jax.data import check_source, open_source
from mim_jax.errors import InputError
from tests.data.folders import pictures

HEAVY = ("jax", "grain", "tensorflow_datasets", "tensorflow", "sklearn", "pandas")


def test_sources_are_opened_and_checked_without_heavy_packages(tmp_path):
    pictures(tmp_path, "train/a/0.png", "test/a/0.png")
    (tmp_path / "train.txt").write_text("train/a/0.png 0\n")
    code = (
        "import sys; from mim_jax.data.sources import check_source, open_source\n"
        f"check_source({str(tmp_path)!r}, ['train', 'test'], needs_labels=True); check_source('digits', ['train'])\n"
        f"open_source({str(tmp_path)!r}, 'train')[0]; open_source({str(tmp_path / 'train.txt')!r}, 'train')[0]\n"
        "try: check_source('tfds:nothing', ['train'])\n"
        "except ValueError: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("names", "source", "splits", "message"),
    [
        ((), "{}/nowhere", ["train"], "there is no folder"),
        ((), "folder:{}/nowhere", ["train"], "does not exist"),
        ((), "{}", ["train"], "No images in"),
        (("train/a/0.png",), "{}", ["train", "test"], "no folder for the split 'test'"),
        (("a/0.png", "0.png"), "{}", ["train"], "has images beside class folders, 0.png beside a/0.png"),
        (("a/0.png", "train/0.png"), "{}", ["train"], "could be a split or a class"),
        (("a/0.png",), "classes:{}", ["train", "test"], "are classes; it has no split 'test'"),
        ((), "{}/list.txt", ["train"], "none of 'digits'|does not exist"),
        ((), "digits", ["train", "dev"], "no split 'dev'"),
        ((), "tfds:nothing", ["train"], "No TFDS data set 'nothing'"),
        ((), "gs://bucket/images", ["train"], "is no local path"),
        ((), "", ["train"], "is no path"),
    ],
)
def test_checking_says_what_opening_says(tmp_path, names, source, splits, message):
    pictures(tmp_path, *names)
    source = source.format(tmp_path)
    options = {"data_dir": str(tmp_path)} if source.startswith("tfds") else {}
    with pytest.raises(InputError, match=message) as checked:
        check_source(source, splits, **options)
    with pytest.raises(InputError) as opened:
        [open_source(source, split, **options) for split in splits]
    assert str(checked.value) == str(opened.value)


@pytest.mark.parametrize("link", [False, True])
def test_a_class_whose_images_are_behind_a_link_has_images(tmp_path, link):
    pictures(tmp_path, "elsewhere/0.png")
    (tmp_path / "data/a").mkdir(parents=True)
    (tmp_path / "data/a/b").symlink_to(tmp_path / "elsewhere")
    check_source(tmp_path / "data", ["train"], needs_labels=True)


def test_labels_that_are_needed_and_missing_are_told(tmp_path):
    pictures(tmp_path, "images/0.png")
    (tmp_path / "list.txt").write_text("images/0.png\n")
    for source in ("images", "list.txt"):
        check_source(tmp_path / source, ["train"])
        with pytest.raises(InputError, match="have no labels"):
            check_source(tmp_path / source, ["train"], needs_labels=True)
