"""Files of torch.save before 0.1.10."""

import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.weights.files.checkpoint_file import open_checkpoint
from mim_jax.weights.files.tensors import StoredTensor
from tests.weights.writing import integer, state_dict, text

FLOATS = np.arange(12, dtype=np.float32) + 0.5
LONGS = np.array([3, -(2**40)])
FLOAT = b"ctorch\nFloatStorage\n"
LONG = b"ctorch\nLongStorage\n"

STORAGES = ((10, FLOAT, FLOATS), (11, LONG, LONGS))
VIEWS = ((12, 10, 4, 6),)  # number, storage that it is a part of, first element, elements

# Number, storage, sizes, strides, offset.
TENSORS = (
    (20, 10, (3, 4), (4, 1), 0),
    (21, 10, (4, 3), (1, 4), 0),
    (22, 10, (2, 2), (4, 2), 5),
    (23, 11, (2,), (1,), 0),
    (24, 12, (2, 3), (3, 1), 0),
)
NAMES = {"whole": 20, "transposed": 21, "strided": 22, "steps": 23, "part": 24}


def persistent(number: int) -> bytes:
    """Operations of a pickle that push a storage or tensor."""
    return text(str(number)) + b"Q"


CALL = b"\x80\x02cwarnings\nwarn\n" + text("called by a checkpoint") + b"\x85R."
"""A pickle that would warn, if anything in it were called."""


def storages_member(storages=STORAGES, views=VIEWS) -> bytes:
    """Each storage's number, device and class, then its length and elements; at last the views."""
    data = pickle.dumps(len(storages), 2)
    for number, kind, array in storages:
        data += b"\x80\x02" + integer(number) + text("cpu") + kind + b"\x87."
        data += struct.pack("<q", array.size) + array.tobytes()
    return data + pickle.dumps(list(views), 2)


def tensors_member(tensors=TENSORS) -> bytes:
    """Each tensor's number, storage and class, then its axes, sizes, strides and offset; the class means nothing."""
    data = pickle.dumps(len(tensors), 2)
    for number, storage, shape, strides, offset in tensors:
        kind = LONG if storage == 11 else FLOAT
        data += b"\x80\x02" + integer(number) + integer(storage) + kind.replace(b"Storage", b"Tensor") + b"\x87."
        data += struct.pack("<i", len(shape)) + b"\xff" * 4
        data += struct.pack(f"<{2 * len(shape) + 1}q", *shape, *strides, offset)
    return data


def torch_tar(**members: bytes | None) -> bytes:
    """A file like those of torch 0.1.9, with other members for those given and without those that are None."""
    content = {
        "sys_info": pickle.dumps({"protocol_version": 1000, "little_endian": True, "type_sizes": {"int": 4}}, 2),
        "pickle": state_dict({name: persistent(number) for name, number in NAMES.items()}),
        "tensors": tensors_member(),
        "storages": storages_member(),
    }
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (content | members).items():
            if data is not None:
                member = tarfile.TarInfo(name)
                member.size, member.mtime = len(data), 1.5  # which takes a header of its own
                archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def write(folder: Path, data: bytes) -> Path:
    (folder / "model.pth").write_bytes(data)
    return folder / "model.pth"


def refused(folder: Path, data: bytes) -> str:
    path = write(folder, data)
    with pytest.raises(InputError) as raised:
        open_checkpoint(path)
    message = str(raised.value)
    assert message.count(str(path)) == 1 and "\n" not in message and len(message) < 400
    return message


def test_tensors_read_as_views_of_the_storages_that_they_share(tmp_path):
    path = write(tmp_path, torch_tar())
    found = open_checkpoint(path)
    assert found.format == "torch tar" and list(found.content) == list(NAMES) and found.files == (path,)
    expected = {
        "whole": FLOATS.reshape(3, 4),
        "transposed": FLOATS.reshape(3, 4).T,
        "strided": FLOATS[[[5, 7], [9, 11]]],
        "steps": LONGS,
        "part": FLOATS[4:10].reshape(2, 3),
    }
    for name, array in expected.items():
        values = found.content[name].read()
        assert values.dtype == array.dtype
        np.testing.assert_array_equal(values, array)
    assert found.content["whole"].storage is found.content["transposed"].storage
    assert [each.name for each in tmp_path.iterdir()] == ["model.pth"]


def test_a_tensor_stays_in_the_file_until_it_is_read(tmp_path):
    path = write(tmp_path, torch_tar())
    stored = open_checkpoint(path).content["whole"]
    assert isinstance(stored, StoredTensor)
    path.unlink()
    with pytest.raises(InputError, match="cannot read"):
        stored.read()


def test_the_words_of_python_2_read(tmp_path):
    words = b"\x80\x02}(U\x05whole" + b"U\x0220Q" + b"u."
    system = b"\x80\x02}(U\x0dlittle_endian\x88u."
    content = open_checkpoint(write(tmp_path, torch_tar(pickle=words, sys_info=system))).content
    np.testing.assert_array_equal(content["whole"].read(), FLOATS.reshape(3, 4))


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    data = torch_tar()
    for length in range(300, len(data.rstrip(b"\0")), 101):
        refused(tmp_path, data[:length])


@pytest.mark.parametrize("name", ["sys_info", "pickle", "tensors", "storages"])
def test_a_missing_member_is_named(tmp_path, name):
    assert f"without {name}" in refused(tmp_path, torch_tar(**{name: None}))


@pytest.mark.parametrize(
    ("name", "before"),
    [(name, b"") for name in ("sys_info", "pickle", "tensors", "storages")]
    + [(name, pickle.dumps(1, 2)) for name in ("tensors", "storages")],
)
def test_a_pickle_that_would_call_something_is_refused_in_every_member(tmp_path, name, before):
    assert "warnings.warn" in refused(tmp_path, torch_tar(**{name: before + CALL}))


def test_views_that_would_call_something_are_refused(tmp_path):
    data = storages_member().removesuffix(pickle.dumps(list(VIEWS), 2)) + CALL
    assert "warnings.warn" in refused(tmp_path, torch_tar(storages=data))


@pytest.mark.parametrize("name", ["sys_info", "pickle", "tensors", "storages"])
@pytest.mark.parametrize("data", [b"", b"\x80\x02N.", b"\x80\x02K\x01.", b"\x80\x02)Q.", b"\xff" * 40])
def test_members_that_hold_something_else_are_refused(tmp_path, name, data):
    if name == "pickle" and data[-1:] == b"." and b"Q" not in data:
        assert open_checkpoint(write(tmp_path, torch_tar(pickle=data))).content in (None, 1)  # sound, but no weights
    else:
        refused(tmp_path, torch_tar(**{name: data}))


@pytest.mark.parametrize("identity", [persistent(99), text("9" * 5000) + b"Q", b"K\x14Q", b"NQ", b")Q"])
def test_an_unknown_number_is_refused(tmp_path, identity):
    assert "damaged" in refused(tmp_path, torch_tar(pickle=state_dict({"a": identity})))


@pytest.mark.parametrize(
    "tensor",
    [
        (20, 99, (1,), (1,), 0),
        (20, 10, (3, 5), (4, 1), 0),
        (20, 10, (12,), (1,), 1),
        (20, 10, (2,), (-1,), 3),
        (20, 10, (-1,), (1,), 0),
        (20, 10, (1,), (1,), -1),
        (20, 10, (2**62, 2**62), (0, 0), 0),
        (20, 10, (1,) * 65, (1,) * 65, 0),
        (20, 12, (7,), (1,), 0),
    ],
    ids=str,
)
def test_impossible_tensors_are_refused(tmp_path, tensor):
    refused(tmp_path, torch_tar(tensors=tensors_member((tensor, *TENSORS[1:]))))


@pytest.mark.parametrize("axes", [-1, 2**31 - 1])
def test_an_impossible_number_of_axes_is_refused(tmp_path, axes):
    data = tensors_member().replace(b"\x02\0\0\0" + b"\xff" * 4, struct.pack("<i", axes) + b"\xff" * 4)
    refused(tmp_path, torch_tar(tensors=data))


@pytest.mark.parametrize("count", [-1, 13, 2**40, 2**63 - 1])
def test_a_storage_of_an_impossible_length_is_refused(tmp_path, count):
    data = storages_member().replace(struct.pack("<q", 12), struct.pack("<q", count))
    assert "damaged" in refused(tmp_path, torch_tar(storages=data))


@pytest.mark.parametrize("view", [(12, 10, 7, 6), (12, 10, -1, 6), (12, 10, 4, -1), (12, 99, 4, 6), (12, 10, 4), 5])
def test_a_view_past_its_storage_is_refused(tmp_path, view):
    assert "damaged" in refused(tmp_path, torch_tar(storages=storages_member(views=(view,))))


@pytest.mark.parametrize("kind", [b"ctorch\nQInt8Storage\n", b"N", b"](K\x01e"])
def test_a_storage_of_no_known_type_is_refused(tmp_path, kind):
    refused(tmp_path, torch_tar(storages=storages_member(((10, kind, FLOATS),), ())))


@pytest.mark.parametrize("count", [-1, 1, 3, 2**70])
def test_another_number_of_storages_or_tensors_is_refused(tmp_path, count):
    for name, data in (("storages", storages_member()), ("tensors", tensors_member())):
        refused(tmp_path, torch_tar(**{name: pickle.dumps(count, 2) + data[len(pickle.dumps(2, 2)) :]}))


def test_a_long_pickle_before_a_storage_is_refused(tmp_path):
    data = pickle.dumps(1, 2) + b"\x80\x02" + b"N0" * 1000 + storages_member()[len(pickle.dumps(2, 2)) :]
    refused(tmp_path, torch_tar(storages=data))


def test_a_big_endian_file_is_refused(tmp_path):
    assert "big-endian" in refused(tmp_path, torch_tar(sys_info=pickle.dumps({"little_endian": False}, 2)))


@pytest.mark.parametrize("kind", [b"cnets\nNet\n", b"(cnets\nNet\n" + text("net.py") + text("class Net: ...") + b"tQ"])
def test_a_whole_module_is_refused_with_what_to_do(tmp_path, kind):
    message = refused(tmp_path, torch_tar(pickle=b"\x80\x02" + kind + b")\x81}" + text("_modules") + b"}sb."))
    assert "nets.Net" in message and "state_dict()" in message


def test_another_archive_is_no_checkpoint(tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:") as archive:
        for number in range(30):
            archive.addfile(tarfile.TarInfo(f"../images/{number}.png"))
    assert "tar archive without sys_info" in refused(tmp_path, file.getvalue())


def test_two_members_of_one_name_are_refused(tmp_path):
    data = torch_tar()
    end = len(data.rstrip(b"\0")) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE + tarfile.BLOCKSIZE
    assert "two members" in refused(tmp_path, data[:end] + torch_tar(sys_info=b"\x80\x02N."))


@pytest.mark.parametrize("size", [-512, -5, 2**60, 10**6])
def test_a_member_of_an_impossible_size_is_refused(tmp_path, size):
    header = tarfile.TarInfo("sys_info")
    header.size = size
    assert "tar archive" in refused(tmp_path, header.tobuf(tarfile.GNU_FORMAT) + torch_tar(sys_info=None))


def test_a_link_is_no_member(tmp_path):
    header = tarfile.TarInfo("sys_info")
    header.type, header.linkname = tarfile.SYMTYPE, "/etc/passwd"
    assert "without sys_info" in refused(tmp_path, header.tobuf(tarfile.USTAR_FORMAT) + torch_tar(sys_info=None))
