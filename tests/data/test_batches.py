"""The pipeline: a pure function of (seed, step), sharded by process, honest about corrupt images."""

import dataclasses
import logging
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mim_jax.data import (
    ArraySource,
    CorruptImage,
    CorruptRecords,
    TrainingBatches,
    evaluation_batches,
    make_transform,
    open_source,
)
from mim_jax.data.pipeline import permutation
from mim_jax.errors import InputError

CROP = make_transform("mae_pretrain", image_size=(8, 8))
KEEP = make_transform("none", image_size=(8, 8))


def _arrays(size: int) -> ArraySource:
    images = np.random.default_rng(0).integers(0, 256, (size, 8, 8, 3)).astype(np.uint8)
    return ArraySource(images, np.arange(size, dtype=np.int32) % 5)


def _folder(root: Path, size: int, corrupt: tuple[int, ...] = ()) -> Path:
    """Noise JPEGs of several sizes; the corrupt ones are cut in half."""
    rng = np.random.default_rng(1)
    for number in range(size):
        file = root / f"{number:03d}.jpg"
        Image.fromarray(rng.integers(0, 256, (20 + number % 3, 30, 3)).astype(np.uint8)).save(file)
        if number in corrupt:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return root


def _same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


# Purity


def test_a_batch_has_the_promised_arrays():
    batch = TrainingBatches(_arrays(10), CROP, batch_size=4, seed=0)[0]
    assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
        "image": ((4, 8, 8, 3), "uint8"),
        "label": ((4,), "int32"),
        "index": ((4,), "int32"),
    }


def test_two_views_lie_side_by_side_and_are_the_same_in_any_number_of_threads_and_processes():
    views = make_transform("lut_two_views", image_size=(8, 8), padding=2)
    batches = TrainingBatches(_arrays(40), views, batch_size=34, seed=0)
    assert batches[0]["image"].shape == (34, 2, 8, 8, 3) and batches[0]["image"].dtype == np.uint8
    assert all(_same(batches[step], batch) for step, batch in enumerate(batches.iterate(0, 2)))
    halves = [dataclasses.replace(batches, process_index=q, process_count=2)[1]["image"] for q in range(2)]
    np.testing.assert_array_equal(np.concatenate(halves), batches[1]["image"])


@pytest.mark.parametrize("threads", [0, 1, 5, 16])
@pytest.mark.parametrize(("start", "stop"), [(0, 6), (4, 7), (3, 3)])
def test_iterating_from_anywhere_with_any_threads_gives_the_indexed_batches(tmp_path, threads, start, stop):
    source = open_source(str(_folder(tmp_path, 45)), "train")
    fresh = TrainingBatches(source, CROP, batch_size=40, seed=3, num_threads=threads)
    expected = [TrainingBatches(source, CROP, batch_size=40, seed=3)[step] for step in range(start, stop)]
    batches = list(fresh.iterate(start, stop))
    assert len(batches) == stop - start and all(map(_same, batches, expected))


def test_a_batch_depends_on_seed_and_step():
    source = _arrays(64)
    one = TrainingBatches(source, CROP, batch_size=8, seed=1)
    other = TrainingBatches(source, CROP, batch_size=8, seed=2)
    assert not np.array_equal(one.indices(0), other.indices(0))
    assert not np.array_equal(one.indices(0), one.indices(1))


def test_the_same_record_is_augmented_anew_in_every_epoch_and_row():
    flat = ArraySource(np.repeat(_arrays(1).images, 16, axis=0), np.zeros(16, np.int32))
    batches = TrainingBatches(flat, CROP, batch_size=16, seed=0)
    images = np.concatenate([batches[0]["image"], batches[1]["image"]])
    assert len({image.tobytes() for image in images}) > 28


def test_the_order_of_seed_0_stays_what_it_is():
    """If this fails, numpy draws other numbers than before, and resumed runs see other batches."""
    assert permutation(0, 0, 8).tolist() == [5, 0, 1, 4, 2, 6, 3, 7]
    assert permutation(0, 1, 8).tolist() == [5, 2, 6, 7, 4, 0, 1, 3]
    top, left = np.random.default_rng((2, 0, 5)).integers(0, 1000, 2)
    assert (int(top), int(left)) == (921, 246)


def test_every_record_comes_once_per_epoch_also_across_batch_borders():
    batches = TrainingBatches(_arrays(23), KEEP, batch_size=5, seed=0)
    order = np.concatenate([batches.indices(step) for step in range(23)])
    for epoch in order.reshape(5, 23):
        assert sorted(epoch) == list(range(23))
    assert not np.array_equal(order[:23], order[23:46])
    assert batches.steps_per_epoch == 4


def test_indices_are_those_of_the_batch():
    source = _arrays(30)
    batches = TrainingBatches(source, KEEP, batch_size=6, seed=4)
    for step in (0, 3, 11):
        batch = batches[step]
        assert np.array_equal(batch["index"], batches.indices(step))
        assert np.array_equal(batch["image"], source.images[batch["index"]])
        assert np.array_equal(batch["label"], source.labels[batch["index"]])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes_hold_consecutive_blocks_of_one_global_batch(count):
    source = _arrays(30)
    whole = TrainingBatches(source, CROP, batch_size=8, seed=0)
    for step in (0, 5):
        options = {"batch_size": 8, "seed": 0, "process_count": count}
        parts = [TrainingBatches(source, CROP, process_index=q, **options)[step] for q in range(count)]
        joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        assert _same(joined, whole[step])


def test_sharded_iteration_equals_indexing():
    batches = TrainingBatches(_arrays(90), CROP, batch_size=80, seed=0, process_index=1, process_count=2)
    assert all(map(_same, batches.iterate(2, 5), [batches[step] for step in (2, 3, 4)]))


# Mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 11}, "batch size 11 exceeds the 10 training images"),
        ({"batch_size": 0}, "must be a positive multiple of the 1 processes"),
        ({"batch_size": 9, "process_count": 2}, "batch size 9 must be a positive multiple of the 2 processes"),
        ({"process_index": 2, "process_count": 2}, "no process 2 among 2"),
        ({"seed": -1}, "seed must not be negative"),
        ({"on_corrupt": "ignore"}, "on_corrupt must be 'skip' or 'stop', not 'ignore'"),
    ],
)
def test_mistakes_are_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        TrainingBatches(_arrays(10), KEEP, **({"batch_size": 4, "seed": 0} | options))


@pytest.mark.parametrize("threads", [0, 4])
def test_an_image_of_the_wrong_size_is_named(tmp_path, threads):
    source = open_source(str(_folder(tmp_path, 4)), "train")
    batches = TrainingBatches(source, KEEP, batch_size=4, seed=0, num_threads=threads)
    with pytest.raises(InputError, match=r"00\d.jpg: The transform 'none' wants images of 8x8 pixels"):
        next(batches.iterate(0, 1))


def test_evaluation_refuses_random_transforms():
    with pytest.raises(InputError, match="'mae_pretrain' is random: evaluate with 'evaluation'"):
        evaluation_batches(_arrays(4), CROP, batch_size=2)


# Corrupt records


def test_a_corrupt_image_is_replaced_by_the_next_readable_named_once_and_counted(tmp_path, caplog):
    source = open_source(str(_folder(tmp_path, 10, corrupt=(4, 5, 9))), "train")
    batches = TrainingBatches(source, CROP, batch_size=10, seed=0)
    stand_in = {4: 6, 5: 6, 9: 0}
    for step, batch in enumerate(batches.iterate(0, 3)):
        assert batch["index"].tolist() == [stand_in.get(i, i) for i in batches.indices(step).tolist()]
    assert len(batches.corrupt) == 3
    assert sorted(batches.corrupt.names) == [str(tmp_path / f"00{i}.jpg") for i in (4, 5, 9)]
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(messages) == 3 and all("truncated" in message.lower() for message in messages)


def test_batches_with_corrupt_records_are_still_pure(tmp_path):
    source = open_source(str(_folder(tmp_path, 12, corrupt=(0, 7, 11))), "train")
    one = TrainingBatches(source, CROP, batch_size=12, seed=0)
    list(one.iterate(0, 3))
    assert all(_same(one[step], TrainingBatches(source, CROP, batch_size=12, seed=0)[step]) for step in (2, 0, 1))


@pytest.mark.parametrize("threads", [0, 4])
def test_a_corrupt_image_stops_the_run_if_asked_to(tmp_path, threads):
    source = open_source(str(_folder(tmp_path, 6, corrupt=(2,))), "train")
    batches = TrainingBatches(source, CROP, batch_size=6, seed=0, on_corrupt="stop", num_threads=threads)
    with pytest.raises(InputError, match="002.jpg cannot be read .*; replace it, or set on_corrupt to 'skip'"):
        next(batches.iterate(0, 1))
    crop = make_transform("evaluation", image_size=(8, 8))
    with pytest.raises(InputError, match="002.jpg cannot be read"):
        next(evaluation_batches(source, crop, batch_size=6, on_corrupt="stop", num_threads=threads))


@pytest.mark.parametrize(("size", "tried"), [(5, 5), (150, 100)])
def test_a_folder_in_which_nothing_is_readable_ends_in_one_sentence(tmp_path, size, tried):
    for number in range(size):
        (tmp_path / f"{number:03d}.png").write_bytes(b"not an image")
    batches = TrainingBatches(open_source(str(tmp_path), "train"), CROP, batch_size=2, seed=0)
    with pytest.raises(InputError, match=f"None of {tried} records in a row can be read, the first is .*png"):
        list(batches.iterate(0, 10))


def test_many_threads_count_and_log_every_record_once(caplog):
    corrupt, error = CorruptRecords(), CorruptImage("x", OSError("broken"))
    threads = [threading.Thread(target=lambda: [corrupt.add(i, error) for i in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logged = [record for record in caplog.records if "x cannot be read" in record.getMessage()]
    assert len(corrupt) == len(corrupt.names) == len(logged) == 200 and 7 in corrupt


# Evaluation


@pytest.mark.parametrize("size", [1, 7, 8, 9, 33])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("threads", [0, 3])
def test_evaluation_shows_every_record_once_in_order(size, count, threads):
    source = _arrays(size)
    options = {"batch_size": 8, "process_count": count, "num_threads": threads}
    parts = [list(evaluation_batches(source, KEEP, process_index=q, **options)) for q in range(count)]
    assert {len(part) for part in parts} == {-(-size // 8)}
    joined = {key: np.concatenate([part[key] for row in zip(*parts) for part in row]) for key in parts[0][0]}
    valid = joined["valid"]
    assert valid.dtype == np.bool_ and valid.tolist() == [True] * size + [False] * (len(valid) - size)
    assert joined["index"].tolist() == list(range(size)) + [-1] * (len(valid) - size)
    assert joined["label"][~valid].tolist() == [-1] * (len(valid) - size)
    assert np.array_equal(joined["image"][valid], source.images)
    assert np.array_equal(joined["label"][valid], source.labels)


def test_evaluation_marks_corrupt_records_and_counts_them(tmp_path):
    source = open_source(str(_folder(tmp_path, 7, corrupt=(3, 6))), "train")
    corrupt = CorruptRecords()
    transform = make_transform("evaluation", image_size=(8, 8))
    batches = list(evaluation_batches(source, transform, batch_size=4, corrupt=corrupt))
    assert np.concatenate([b["index"] for b in batches]).tolist() == [0, 1, 2, -1, 4, 5, -1, -1]
    assert np.concatenate([b["valid"] for b in batches]).tolist() == [True] * 3 + [False] + [True] * 2 + [False] * 2
    assert len(corrupt) == 2


# Ends


def _prefetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "grain" in thread.name]


@pytest.mark.parametrize("end", ["close", "exception", "exhausted"])
def test_threads_end_with_the_iteration(end):
    batches = TrainingBatches(_arrays(64), CROP, batch_size=32, seed=0, num_threads=4)
    iterator = batches.iterate(0, 1000 if end != "exhausted" else 2)
    next(iterator)
    assert _prefetching()
    if end == "close":
        iterator.close()
    elif end == "exception":
        with pytest.raises(ZeroDivisionError):
            iterator.throw(ZeroDivisionError())
    else:
        list(iterator)
    for thread in _prefetching():
        thread.join(timeout=10)
    assert not _prefetching()


@pytest.mark.parametrize("error", ["RuntimeError", "KeyboardInterrupt"])
def test_an_exception_while_reading_ahead_does_not_hang_the_process(error):
    code = f"""
import numpy as np
from mim_jax.data import ArraySource, TrainingBatches, make_transform
source = ArraySource(np.zeros((64, 8, 8, 3), np.uint8), np.zeros(64, np.int32))
crop = make_transform("mae_pretrain", image_size=(64, 64))
for batch in TrainingBatches(source, crop, batch_size=64, seed=0).iterate(0, 10**6):
    raise {error}("stop")
"""
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, timeout=60)
    assert result.returncode != 0 and error in result.stderr.decode()


def test_batches_can_be_replaced_piece_by_piece():
    batches = TrainingBatches(_arrays(16), CROP, batch_size=4, seed=0)
    other = dataclasses.replace(batches, seed=1)
    assert _same(other[3], TrainingBatches(_arrays(16), CROP, batch_size=4, seed=1)[3])
