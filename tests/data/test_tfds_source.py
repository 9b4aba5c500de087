"""TFDS data sets read without TensorFlow."""

import dataclasses
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mim_jax.data import CorruptImage, open_source, tfrecord
from mim_jax.errors import InputError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the tiny data set as array_record."""
    root = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1]))
        from tfds_digits.tfds_digits_dataset_builder import Builder

        Builder(data_dir=root, file_format="array_record").download_and_prepare()
    return root


@pytest.fixture
def tfrecords(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same data set as tfrecord, two shards a split, framed by hand."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, target = prepared / "tfds_digits/1.0.0", tmp_path / "data/tfds_digits/1.0.0"
    target.mkdir(parents=True)
    shutil.copy(source / "features.json", target)
    shutil.copy(source / "label.labels.txt", target)
    info = json.loads((source / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    for split in info["splits"]:
        split["shardLengths"] = _write_shards(prepared, split["name"], target)
    (target / "dataset_info.json").write_text(json.dumps(info))
    return tmp_path / "data"


def _write_shards(prepared: Path, split: str, target: Path) -> list[str]:
    records = open_source("tfds:tfds_digits", split, data_dir=str(prepared)).records
    parts = [[records[i] for i in range(3)], [records[i] for i in range(3, len(records))]]
    for number, part in enumerate(parts):
        file = target / f"tfds_digits-{split}.tfrecord-{number:05d}-of-00002"
        file.write_bytes(b"".join(_frame(data) for data in part))
    return [str(len(part)) for part in parts]


def _frame(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _masked_crc(length) + data + _masked_crc(data)


def _masked_crc(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _content(source) -> list[tuple[int, int, tuple[int, ...]]]:
    """Colour, label and shape of every record."""
    records = [source[i] for i in range(len(source))]
    return [(int(r["image"].max()), r["label"], r["image"].shape) for r in records]


def _expected(numbers) -> list[tuple[int, int, tuple[int, ...]]]:
    return [(n, n % 3, (5 + n % 2, 7, 3)) for n in numbers]


def test_array_record_gives_every_record_once(prepared):
    source = open_source("tfds:tfds_digits", "train", data_dir=str(prepared))
    assert sorted(_content(source)) == _expected(range(10))
    assert source.class_names == ("apple", "pear", "plum")
    assert source.describe(3) == "record 3 of tfds_digits/train"


@pytest.mark.parametrize("split", ["train", "test", "train[2:7]", "train[50%:]", "train[:2]+test[3:]"])
def test_tfrecord_and_array_record_agree(prepared, tfrecords, split):
    first, second = (open_source("tfds:tfds_digits:1.0.0", split, data_dir=str(d)) for d in (prepared, tfrecords))
    assert first.records.__class__ is not second.records.__class__
    assert _content(first) == _content(second)


def test_the_newest_version_is_read_unless_one_is_named(prepared, tmp_path):
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        shutil.copytree(prepared / "tfds_digits/1.0.0", tmp_path / "tfds_digits" / version)
    (newest,) = open_source("tfds:tfds_digits", "test", data_dir=str(tmp_path)).records.spread.files
    (named,) = open_source("tfds:tfds_digits:1.9.0", "test", data_dir=str(tmp_path)).records.spread.files
    assert (Path(newest).parent.name, Path(named).parent.name) == ("1.10.0", "1.9.0")
    with pytest.raises(InputError, match=r"'tfds_digits:2.0.0' is not prepared.*which has tfds_digits:1.0.0, tfds"):
        open_source("tfds:tfds_digits:2.0.0", "test", data_dir=str(tmp_path))


def test_several_configs_must_be_told_apart(prepared, tmp_path):
    for config in ("big", "small"):
        shutil.copytree(prepared / "tfds_digits/1.0.0", tmp_path / "set" / config / "1.0.0")
    with pytest.raises(InputError, match="several configs .* name one of big, small"):
        open_source("tfds:set", "test", data_dir=str(tmp_path))
    assert len(open_source("tfds:set/big", "test", data_dir=str(tmp_path))) == 4


def test_the_index_is_kept_beside_the_files_and_used(tfrecords, monkeypatch):
    before = _content(open_source("tfds:tfds_digits", "train", data_dir=str(tfrecords)))
    assert len(list(tfrecords.glob("*/*/mim_jax_index_*.npz"))) == 1
    assert not list(tfrecords.glob("*/*/*tmp*"))
    monkeypatch.setattr(tfrecord, "record_offsets", lambda path: pytest.fail("scanned again"))
    assert _content(open_source("tfds:tfds_digits", "train", data_dir=str(tfrecords))) == before


def test_a_changed_shard_is_scanned_again(tfrecords):
    open_source("tfds:tfds_digits", "train", data_dir=str(tfrecords))
    shard = next(tfrecords.glob("*/*/*train*-00001-of-00002"))
    shard.write_bytes(shard.read_bytes() + _frame(b"more"))
    with pytest.raises(InputError, match="00001-of-00002 holds 8 records where dataset_info.json says 7"):
        open_source("tfds:tfds_digits", "train", data_dir=str(tfrecords))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not an archive", b"garbage"])
def test_a_damaged_index_is_made_again(tfrecords, content):
    before = _content(open_source("tfds:tfds_digits", "train", data_dir=str(tfrecords)))
    index = next(tfrecords.glob("*/*/mim_jax_index_*.npz"))
    index.write_bytes(content)
    assert _content(open_source("tfds:tfds_digits", "train", data_dir=str(tfrecords))) == before
    assert index.read_bytes() != content


def test_without_a_writable_folder_the_index_goes_to_the_cache_or_stays_in_memory(tmp_path, monkeypatch, caplog):
    file = tmp_path / "a.tfrecord"
    file.write_bytes(_frame(b"one") + _frame(b"three"))
    save, refused = tfrecord._save, {tmp_path}
    monkeypatch.setattr(tfrecord, "_save", lambda cache, *rest: cache.parent not in refused and save(cache, *rest))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (offsets,) = tfrecord.read_offsets([str(file)])
    assert tfrecord.read_record(str(file), offsets, 1) == b"three"
    assert len(list((tmp_path / "cache/mim_jax").iterdir())) == 1 and not caplog.records
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    refused.add(tmp_path / "other/mim_jax")
    tfrecord.read_offsets([str(file)])
    assert "cannot be written" in caplog.text


def test_an_index_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file, not a folder")
    assert not tfrecord._save(blocked / "index.npz", np.zeros((1, 2), np.int64), (np.array([12]),))
    assert list(tmp_path.iterdir()) == [blocked]


@pytest.mark.parametrize("cut", [1, 5, 20, 30])
def test_a_truncated_tfrecord_is_named(tfrecords, cut):
    shard = next(tfrecords.glob("*/*/*train*-00001-of-00002"))
    shard.write_bytes(shard.read_bytes()[:-cut])
    with pytest.raises(InputError, match="train.tfrecord-00001-of-00002 is truncated"):
        open_source("tfds:tfds_digits", "train", data_dir=str(tfrecords))


def test_a_tfrecord_that_shrinks_while_in_use_is_named(tfrecords):
    source = open_source("tfds:tfds_digits", "train", data_dir=str(tfrecords))
    shard = next(tfrecords.glob("*/*/*train*-00001-of-00002"))
    shard.write_bytes(shard.read_bytes()[:-40])
    with pytest.raises(InputError, match="00001-of-00002 ends inside record 6"):
        source[9]


def test_a_missing_shard_is_named(tfrecords):
    next(tfrecords.glob("*/*/*train*-00001-of-00002")).unlink()
    with pytest.raises(InputError, match="1 of 2 shards are missing, the first is .*00001-of-00002"):
        open_source("tfds:tfds_digits", "train", data_dir=str(tfrecords))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])  # half is the border of a block, where the reader gives no error
def test_a_damaged_array_record_is_named(prepared, tmp_path, share):
    shutil.copytree(prepared / "tfds_digits", tmp_path / "tfds_digits")
    shard = next(tmp_path.glob("*/*/*train*array_record*"))
    shard.write_bytes(shard.read_bytes()[: int(shard.stat().st_size * share)])
    source = open_source("tfds:tfds_digits", "train[2:]", data_dir=str(tmp_path))
    with pytest.raises(InputError, match="train.array_record-00000-of-00001 is damaged at record 3"):
        source[1]


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("tfds_digit", "train", "No TFDS data set 'tfds_digit' is prepared under .*did you mean 'tfds_digits'"),
        ("imagenet2012", "train", "No TFDS data set 'imagenet2012' .*it has tfds_digits.*download_and_prepare"),
        ("tfds_digits", "validation", "no split 'validation': it has train, test"),
        ("tfds_digits", "train[:abc]", "no split"),
        ("tfds_digits", "train[:0]", "is empty"),
        ("tfds digits!", "train", "is not a TFDS name"),
    ],
)
def test_mistakes_are_one_sentence(prepared, name, split, message):
    with pytest.raises(InputError, match=message) as caught:
        open_source(f"tfds:{name}", split, data_dir=str(prepared))
    assert "\n" not in str(caught.value)


def test_a_bucket_is_refused():
    with pytest.raises(InputError, match="gs://bucket is no local path"):
        open_source("tfds:mnist", "train", data_dir="gs://bucket")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"image": {\n                "im', '"picture": {\n                "im', "no image feature called 'image'"),
        ('"3"', '"4"', "8-bit gray"),
    ],
)
def test_features_without_a_readable_image_are_refused(prepared, tmp_path, old, new, message):
    shutil.copytree(prepared / "tfds_digits", tmp_path / "tfds_digits")
    features = next(tmp_path.glob("*/*/features.json"))
    assert old in features.read_text()
    features.write_text(features.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        open_source("tfds:tfds_digits", "train", data_dir=str(tmp_path))


def test_another_file_format_is_refused(prepared, tmp_path):
    shutil.copytree(prepared / "tfds_digits", tmp_path / "tfds_digits")
    info = next(tmp_path.glob("*/*/dataset_info.json"))
    info.write_text(info.read_text().replace('"array_record"', '"riegeli"'))
    with pytest.raises(InputError, match="stored as riegeli; only array_record and tfrecord"):
        open_source("tfds:tfds_digits", "train", data_dir=str(tmp_path))


def test_a_corrupt_image_is_named(prepared):
    source = open_source("tfds:tfds_digits", "train", data_dir=str(prepared))
    broken = dataclasses.replace(source, parse=lambda data: source.parse(data) | {"image": b"no image"})
    with pytest.raises(CorruptImage, match="record 2 of tfds_digits/train cannot be read"):
        broken[2]


def test_importing_and_reading_needs_no_tensorflow(prepared):
    code = f"""
import sys
import mim_jax.data
assert mim_jax.data.open_source("tfds:tfds_digits", "test", data_dir={str(prepared)!r})[0]["image"].shape[2] == 3
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
