"""Files of the safetensors format."""

import functools
import json
import struct
import weakref

import ml_dtypes
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.weights.files.safetensors_file import read_safetensors
from mim_jax.weights.files.safetensors_writing import AT_ONCE, write_safetensors
from mim_jax.weights.files.tensors import DTYPES
from tests.weights.limits import file_size_limit

TYPES = sorted(set(DTYPES) - {"complex128"})


def write(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(begin=0, end=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def refused(path) -> str:
    with pytest.raises(InputError) as raised:
        read_safetensors(path)
    message = str(raised.value)
    assert str(path) in message and "\n" not in message and len(message) < 400
    return message


def test_every_type_survives_writing_and_reading(tmp_path):
    arrays = {name: np.array([[0, 1, 1], [1, 0, 1]]).astype(DTYPES[name]) for name in TYPES}
    arrays |= {"scalar": np.array(2.5), "empty": np.zeros((0, 3), np.float32), "é": np.ones(1)}
    path = tmp_path / "folder" / "m.safetensors"
    write_safetensors(path, {n: (a.dtype, a.shape, a) for n, a in arrays.items()}, {"format": "pt"})
    found, metadata = read_safetensors(path)
    assert metadata == {"format": "pt"} and set(found) == set(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name].read().astype(np.complex64), array.astype(np.complex64))
        assert found[name].storage.offset % array.itemsize == 0
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_library_reads_what_we_write_and_we_read_what_it_writes(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    arrays = {"b": np.arange(6.0, dtype=np.float32).reshape(2, 3), "a": np.arange(3), "c": np.ones((), np.float16)}
    write_safetensors(tmp_path / "ours", {n: (a.dtype, a.shape, a) for n, a in arrays.items()}, {"x": "y"})
    for name, array in library.load_file(tmp_path / "ours").items():
        np.testing.assert_array_equal(array, arrays[name])
    library.save_file(arrays, tmp_path / "theirs", {"x": "y"})
    found, metadata = read_safetensors(tmp_path / "theirs")
    assert metadata == {"x": "y"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].read(), array)


def test_the_bytes_are_those_of_the_library_for_one_type(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    arrays = {name: np.full(3, number, np.float32) for number, name in enumerate(("b", "a.x", "a"))}
    write_safetensors(tmp_path / "ours", {n: (a.dtype, a.shape, a) for n, a in arrays.items()})
    assert (tmp_path / "ours").read_bytes() == library.save(arrays)


def test_tensors_are_made_a_few_at_a_time_and_cast(tmp_path):
    alive: set[int] = set()
    most: list[int] = []

    def make():
        array = np.ones(4, np.float64)
        alive.add(id(array))
        weakref.finalize(array, alive.discard, id(array))
        most.append(len(alive))
        return array

    write_safetensors(tmp_path / "m", [(f"{number}", ("bfloat16", (4,), make)) for number in range(50)])
    assert len(most) == 50 and max(most) <= AT_ONCE
    found, _ = read_safetensors(tmp_path / "m")
    assert found["7"].dtype == ml_dtypes.bfloat16 and found["7"].read().tolist() == [1] * 4


def test_axes_in_any_order_are_written_in_ours(tmp_path):
    array = np.arange(3 * 400 * 300, dtype=np.float32).reshape(3, 400, 300)
    views = {
        "turned": array.T,
        "swapped": array.swapaxes(0, 1),
        "every_second": array[:, ::2],
        "backwards": array[::-1],
    }
    write_safetensors(tmp_path / "m", {name: (view.dtype, view.shape, view) for name, view in views.items()})
    found, _ = read_safetensors(tmp_path / "m")
    for name, view in views.items():
        np.testing.assert_array_equal(found[name].read(), view)


def test_what_cannot_be_written_leaves_no_file(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(ValueError, match="shape"):
        write_safetensors(path, {"a": (np.float32, (3,), np.ones(2))})
    with pytest.raises(ValueError, match="cannot hold"):
        write_safetensors(path, {"a": (np.complex128, (2,), np.ones(2))})
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_safetensors(tmp_path / "file" / "m", {})
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_without_tensors_is_no_mistake(tmp_path):
    write_safetensors(tmp_path / "m", {})
    assert read_safetensors(tmp_path / "m") == ({}, {})


def test_a_disk_that_refuses_in_the_middle_is_told_in_one_sentence_and_leaves_no_file(tmp_path):
    tensors = {f"{number}": (np.float32, (4096,), np.ones(4096)) for number in range(20)}
    with file_size_limit(100_000), pytest.raises(InputError, match="cannot write .*m: File too large; make room"):
        write_safetensors(tmp_path / "m", tensors)
    assert not list(tmp_path.iterdir())


def test_after_the_first_failure_no_more_tensors_are_made(tmp_path):
    made: list[int] = []

    def make(number):
        made.append(number)
        if number == 3:
            raise InputError("the third is bad")
        return np.ones(1)

    tensors = [(f"{n:04}", (np.float32, (1,), functools.partial(make, n))) for n in range(2000)]
    with pytest.raises(InputError, match="the third is bad"):
        write_safetensors(tmp_path / "m", tensors)
    assert len(made) < 2000 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"a.b": entry(0, 16)}, "a.b"),
        ({"a.b": entry(8, 0)}, "a.b"),
        ({"a.b": entry(-8, 0)}, "a.b"),
        ({"a.b": entry(shape=(3,))}, "a.b"),
        ({"a.b": entry(shape=(-2,))}, "a.b"),
        ({"a.b": entry(shape=(True, 2))}, "a.b"),
        ({"a.b": entry(shape=(2.0,))}, "a.b"),
        ({"a.b": entry(shape=(2**62, 2**62, 0), end=0), "c": entry()}, "a.b"),
        ({"a.b": entry(shape=(2**63,))}, "a.b"),
        ({"a.b": entry(shape=(1,) * 70)}, "a.b"),
        ({"a.b": entry(dtype="F33")}, "F33"),
        ({"a.b": entry(dtype="F4")}, "F4"),
        ({"a.b": entry(dtype=["F32"])}, "a.b"),
        ({"a.b": entry() | {"more": 1}}, "a.b"),
        ({"a.b": [1, 2]}, "a.b"),
        ({"a.b": {"dtype": "F32", "shape": [2]}}, "a.b"),
        ({"a.b": entry(0, 4, (1,)), "c.d": entry(0, 8)}, "overlap"),
        ({"a.b": entry(4, 8, (1,))}, "hole"),
        ({"a.b": entry(0, 4, (1,))}, "4 bytes at its end"),
        ({}, "8 bytes at its end"),
        ({"__metadata__": {"a": 1}, "a.b": entry()}, "metadata"),
        ({"__metadata__": "a", "a.b": entry()}, "metadata"),
        (b'{"a.b": 1, "a.b": 1}', "a.b twice"),
        (b"[1]", "object"),
        (b"\xff{}", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "JSON"),
    ],
)
def test_damaged_headers_are_refused(tmp_path, header, said):
    assert said in refused(write(tmp_path / "m.safetensors", header, bytes(8)))


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**12, 3])
def test_impossible_lengths_are_refused(tmp_path, length):
    refused(write(tmp_path / "m.safetensors", {"a": entry()}, bytes(8), length))


def test_a_header_may_have_spaces_behind_and_tensors_in_any_order(tmp_path):
    header = json.dumps({"b": entry(8, 16), "a": entry()}).encode() + b"    "
    found, metadata = read_safetensors(write(tmp_path / "m", header, np.arange(4, dtype=np.float32).tobytes()))
    assert found["b"].read().tolist() == [2, 3] and metadata == {}


def test_a_file_that_becomes_shorter_is_seen(tmp_path):
    path = write(tmp_path / "m", {"a": entry()}, bytes(8))
    found, _ = read_safetensors(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="changed"):
        found["a"].read()
