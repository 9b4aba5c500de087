"""List files as people and programs write them."""

import codecs

import pytest

from mim_jax.data import open_source, telling
from mim_jax.errors import InputError
from tests.data.folders import labels, pictures, shown

NAMES = ("a.png", "b.png", "with space.png", "a, b.png", "#1.png")


@pytest.fixture(autouse=True)
def _told_anew():
    telling.forget()


@pytest.fixture
def folder(tmp_path):
    pictures(tmp_path, *NAMES)
    return tmp_path


def _open(folder, text, split="train", name="list.txt"):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_source(str(folder / name), split)


@pytest.mark.parametrize(
    "text",
    [
        codecs.BOM_UTF8 + b"a.png 0\r\nb.png 1\r\n",
        codecs.BOM_UTF16_LE + "a.png 0\r\nb.png 1\r\n".encode("utf-16-le"),
        "a.png,0\nb.png,1",
        "a.png;0\nb.png;1",
        "a.png\t0\nb.png\t1",
        "\n  a.png   0  \n\n# b.png 7\nb.png 1\n",
        "'a.png' 0\n\"b.png\",1",
        '"a.png",\'0\'\n"b.png"\t"1"',
    ],
)
@pytest.mark.parametrize("name", ["list.txt", "list.csv", "LIST.TSV"])
def test_marks_separators_quotes_and_comments(folder, text, name):
    source = _open(folder, text, name=name)
    assert shown(source, folder) == ["a.png", "b.png"] and labels(source) == [0, 1]


def test_paths_with_spaces_commas_and_a_hash(folder):
    source = _open(folder, 'with space.png 0\na, b.png\t1\n"a, b.png" 1\n./#1.png 0')
    assert shown(source, folder) == ["with space.png", "a, b.png", "a, b.png", "#1.png"]
    assert labels(source) == [0, 1, 1, 0]


def test_the_home_folder_is_followed(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "list.txt").write_text("~/a.png\n")
    assert shown(open_source("~/list.txt", "train"), folder) == ["a.png"]


def test_words_are_the_names_of_classes_in_every_split(folder):
    _open(folder, "a.png dog\nb.png golden retriever\na.png cat\n", name="train.txt")
    _open(folder, "b.png golden retriever\na.png dog\n", name="val.txt")
    train, val = (open_source(f"{folder}/{{split}}.txt", split) for split in ("train", "val"))
    assert train.class_names == val.class_names == ("cat", "dog", "golden retriever")
    assert labels(train) == [1, 2, 0] and labels(val) == [2, 1]
    _open(folder, "b.png wolf\n", name="val.txt")
    with pytest.raises(InputError, match="val.txt has labels that the training list lacks: wolf"):
        open_source(f"{folder}/{{split}}.txt", "val")


def test_numbers_with_gaps_are_classes_that_there_are(folder, caplog):
    _open(folder, "a.png 999999999\nb.png 7\nwith space.png 4294967296\n", name="train.txt")
    _open(folder, "a.png 4294967296\nb.png 0007\n", name="val.txt")
    train, val = (open_source(f"{folder}/{{split}}.txt", split) for split in ("train", "val"))
    assert train.class_names == val.class_names == ("7", "999999999", "4294967296")
    assert labels(train) == [1, 0, 2] and labels(val) == [2, 0]
    assert "the labels are 3 numbers from 7 to 4294967296; classes are numbered from 0 to 2" in caplog.text


def test_images_that_come_twice_are_told(folder, caplog):
    assert len(_open(folder, "a.png 0\nb.png 1\na.png 0\nb.png 0\n")) == 4
    assert "2 lines name an image that an earlier one names, 1 with another label; all are used" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png 3.0", "line 1: the label '3.0' is not a whole number from 0"),
        ("a.png -1", "line 1: the label '-1' is not a whole number from 0"),
        ("a.png " + "9" * 5000, "is not a whole number"),
        ("a.png 0\nb.png", "with and without a label; .*b.png has none, in line 2"),
        ("a.png cat\nb.png 1", "line 1: the label 'cat' is not a whole number, but others are"),
        ("a.png,0,train", "line 1: 'a.png,0,train' has more than a path and a label"),
        ("photo of a cat", "line 1: which part of 'photo of a cat' is the label"),
        ("path,label\na.png,0", "names .*first, which does not exist: paths are relative to"),
        ("0 a.png", "names .*0 a.png first, which does not exist"),
        ("# nothing\n", "is empty"),
    ],
)
def test_what_cannot_be_known_is_one_sentence(folder, text, message):
    with pytest.raises(InputError, match=message) as caught:
        _open(folder, text)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind_is_not_called_missing(folder):
    (folder / "list.json").write_text("[]")
    with pytest.raises(InputError, match="list.json is neither a folder nor a list file"):
        open_source(str(folder / "list.json"), "train")
