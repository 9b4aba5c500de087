"""Files of torch.save."""

import struct
import subprocess
import sys
import zipfile
import zlib

import ml_dtypes
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.weights.files.checkpoint_file import open_checkpoint
from mim_jax.weights.files.inert import Opaque
from mim_jax.weights.files.tensors import LARGEST_EXPANSION, StoredTensor
from tests.weights.writing import EMPTY_ORDERED_DICT, SYSTEM, state_dict, tensor, text, write_legacy, write_zip

VALUES = np.arange(4, dtype=np.float32) + 0.5


def refused(path) -> str:
    with pytest.raises(InputError) as raised:
        open_checkpoint(path)
    message = str(raised.value)
    assert message.count(str(path)) == 1 and "\n" not in message and len(message) < 400
    return message


def read(path, name="a.weight"):
    return open_checkpoint(path).content[name].read()


def test_a_tensor_stays_in_the_file_until_it_is_read(tmp_path):
    path = write_zip(tmp_path / "model.pth", state_dict({"a.weight": tensor()}), {"0": VALUES.tobytes()})
    stored = open_checkpoint(path).content["a.weight"]
    assert isinstance(stored, StoredTensor)
    assert (stored.shape, stored.dtype, stored.size, stored.nbytes) == ((4,), np.float32, 4, 16)
    np.testing.assert_array_equal(stored.read(), VALUES)
    path.unlink()
    with pytest.raises(InputError, match="cannot read"):
        stored.read()


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("DoubleStorage", np.float64), ("FloatStorage", np.float32), ("HalfStorage", np.float16),
        ("BFloat16Storage", ml_dtypes.bfloat16), ("LongStorage", np.int64), ("IntStorage", np.int32),
        ("ShortStorage", np.int16), ("CharStorage", np.int8), ("ByteStorage", np.uint8), ("BoolStorage", np.bool_),
        ("ComplexFloatStorage", np.complex64), ("ComplexDoubleStorage", np.complex128),
    ],
)  # fmt: skip
@pytest.mark.parametrize("order", ["little", "big"])
def test_every_type_reads_in_both_byte_orders(tmp_path, kind, dtype, order):
    values = np.array([0, 1, 1, 1]).astype(dtype)
    word = values.itemsize // (2 if values.dtype.kind == "c" else 1)
    data = values.view(f"u{word}").byteswap() if order == "big" else values
    path = write_zip(
        tmp_path / "model.pth", state_dict({"a.weight": tensor(kind=kind)}), {"0": data.tobytes()},
        byteorder=order.encode(),
    )  # fmt: skip
    found = read(path)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)


def test_an_unknown_byte_order_is_refused(tmp_path):
    path = write_zip(tmp_path / "m.pth", state_dict({"a": tensor()}), {"0": VALUES.tobytes()}, byteorder=b"middle")
    assert "middle" in refused(path)


def test_types_without_a_class_of_storage_are_told_by_the_tensor(tmp_path):
    storage = b"(" + text("storage") + b"ctorch.storage\nUntypedStorage\n" + text("0") + text("cpu") + b"K\x04tQ"
    value = b"ctorch._utils\n_rebuild_tensor_v3\n(" + storage + b"K\x00K\x04\x85K\x01\x85\x89" + EMPTY_ORDERED_DICT
    value += b"ctorch\nfloat8_e5m2\ntR"
    values = np.array([0, 1, -2, 0.5]).astype(ml_dtypes.float8_e5m2)
    path = write_zip(tmp_path / "m.pth", state_dict({"a.weight": value}), {"0": values.tobytes()})
    np.testing.assert_array_equal(read(path).view(np.uint8), values.view(np.uint8))


def test_views_of_one_storage_read_their_own_elements(tmp_path):
    values = np.arange(12, dtype=np.float32)
    tensors = {
        "transposed": tensor(count=12, shape=(4, 3), strides=(1, 4)),
        "slice": tensor(count=12, offset=5, shape=(3,), strides=(2,)),
        "expanded": tensor(count=12, offset=2, shape=(5, 2), strides=(0, 1)),
        "scalar": tensor(count=12, offset=11, shape=(), strides=()),
        "empty": tensor(count=12, offset=99, shape=(0, 3), strides=(3, 1)),
    }
    content = open_checkpoint(write_zip(tmp_path / "m.pth", state_dict(tensors), {"0": values.tobytes()})).content
    np.testing.assert_array_equal(content["transposed"].read(), values.reshape(3, 4).T)
    np.testing.assert_array_equal(content["slice"].read(), [5, 7, 9])
    np.testing.assert_array_equal(content["expanded"].read(), [[2, 3]] * 5)
    assert content["scalar"].read() == 11 and content["empty"].read().shape == (0, 3)


@pytest.mark.parametrize(
    "view",
    [
        dict(shape=(5,)),
        dict(offset=1),
        dict(offset=-1, shape=(2,)),
        dict(shape=(-4,)),
        dict(shape=(-2, -2), strides=(1, 1)),
        dict(strides=(-1,)),
        dict(shape=(2, 2)),
        dict(shape=(10**15,), strides=(0,)),
        dict(shape=(LARGEST_EXPANSION // 4 + 5,), strides=(0,)),
        dict(shape=(2**32, 2**32), strides=(0, 0)),
        dict(shape=(2**40, 0), strides=(2**60, 1)),
        dict(shape=(2**2000,) * 60, strides=(0,) * 60),
        dict(shape=(0, 2**70), strides=(1, 1)),
        dict(strides=(2**64,)),
    ],
)
def test_impossible_tensors_are_refused_by_their_place(tmp_path, view):
    inside = b"}" + text("norm.weight") + tensor(**view) + b"s"
    if view == dict(shape=(2**40, 0), strides=(2**60, 1)):  # no elements, and not beyond what NumPy can say
        view["shape"] = (2**62, 0)
        inside = b"}" + text("norm.weight") + tensor(**view) + b"s"
    path = write_zip(tmp_path / "m.pth", state_dict({"model": inside}), {"0": VALUES.tobytes()})
    assert "model/norm.weight" in refused(path)


def test_a_tensor_inside_an_opaque_object_is_checked_when_it_is_read(tmp_path):
    value = b"cx\nY\n)\x81" + tensor(shape=(5,)) + b"b"
    path = write_zip(tmp_path / "m.pth", state_dict({"a": value}), {"0": VALUES.tobytes()})
    with pytest.raises(InputError, match="past"):
        open_checkpoint(path).content["a"].state.read()


def test_tensors_that_are_no_plain_numbers_stay_opaque(tmp_path):
    conjugated = tensor()[:-2] + b"}" + text("conj") + b"\x88stR"
    path = write_zip(tmp_path / "m.pth", state_dict({"a": conjugated}), {"0": VALUES.tobytes()})
    assert isinstance(open_checkpoint(path).content["a"], Opaque)


def test_storages_of_quantised_numbers_are_refused(tmp_path):
    path = write_zip(tmp_path / "m.pth", state_dict({"a": tensor(kind="QInt8Storage")}), {"0": VALUES.tobytes()})
    assert "torch.QInt8Storage" in refused(path)


@pytest.mark.parametrize("identity", [b"N", b"(t", b"K\x01", text("storage") * 5, text("storage") + b"NNNN"])
def test_odd_persistent_ids_are_refused(tmp_path, identity):
    refused(write_zip(tmp_path / "m.pth", b"\x80\x02(" + identity + b"tQ.", {}))
    refused(write_zip(tmp_path / "m.pth", b"\x80\x02" + identity + b"Q.", {}))


def test_a_storage_that_is_missing_or_of_another_size_is_named(tmp_path):
    pickle = state_dict({"a": tensor(key="7")})
    assert "data/7" in refused(write_zip(tmp_path / "m.pth", pickle, {}))
    for count in (3, 5):
        assert "data/7" in refused(write_zip(tmp_path / "m.pth", pickle, {"7": bytes(4 * count)}))


@pytest.mark.parametrize("view", [dict(), dict(shape=(1,)), dict(offset=3, shape=(1,))])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_flipped_bit_anywhere_in_a_storage_is_seen(tmp_path, view, compression):
    path = write_zip(tmp_path / "m.pth", state_dict({"a": tensor(**view)}), {"0": VALUES.tobytes()}, compression)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("archive/data/0")
    data = bytearray(path.read_bytes())
    data[info.header_offset + 30 + len(info.filename) + 6] ^= 16
    path.write_bytes(data)
    with pytest.raises(InputError, match="archive/data/0"):
        read(path, "a")


def test_a_flipped_bit_in_the_pickle_is_seen(tmp_path):
    path = write_zip(tmp_path / "m.pth", state_dict({"first": tensor()}), {"0": VALUES.tobytes()})
    path.write_bytes(path.read_bytes().replace(b"first", b"fisst"))
    assert "checksum" in refused(path)


def test_compressed_files_read(tmp_path):
    values = np.arange(2**20, dtype=np.float32)
    tensors = {
        "all": tensor(count=2**20, shape=(2**20,)),
        "part": tensor(count=2**20, offset=600_000, shape=(3,)),
    }
    path = write_zip(tmp_path / "m.pth", state_dict(tensors), {"0": values.tobytes()}, zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(read(path, "all"), values)
    np.testing.assert_array_equal(read(path, "part"), [600_000, 600_001, 600_002])
    np.testing.assert_array_equal(read(path, "part"), [600_000, 600_001, 600_002])


def test_a_storage_that_inflates_beyond_all_measure_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("mim_jax.weights.files.zip_entries.ALWAYS_ALLOWED", 2**16)
    count = 2**16
    pickle = state_dict({"a": tensor(count=count, shape=(count,))})
    path = write_zip(tmp_path / "m.pth", pickle, {"0": bytes(4 * count)}, zipfile.ZIP_DEFLATED)
    assert "inflate" in refused(path)


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def test_a_storage_that_inflates_to_more_than_it_says_is_refused(tmp_path):
    path = write_zip(tmp_path / "m.pth", state_dict({"a": tensor()}), {"0": VALUES.tobytes()}, zipfile.ZIP_DEFLATED)
    data, small, large = path.read_bytes(), deflate(VALUES.tobytes()), deflate(bytes(2**22))
    at = data.index(small)
    grown = data[:at] + large + data[at + len(small) :]
    grown = grown.replace(struct.pack("<II", len(small), 16), struct.pack("<II", len(large), 16))
    end = grown.rindex(b"PK\5\6")
    directory = struct.unpack_from("<I", grown, end + 16)[0] + len(large) - len(small)
    path.write_bytes(grown[: end + 16] + struct.pack("<I", directory) + grown[end + 20 :])
    with pytest.raises(InputError, match="archive/data/0"):
        read(path, "a")


def test_odd_archives_are_refused(tmp_path):
    path = tmp_path / "m.pth"
    write_zip(path, state_dict({}), {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", state_dict({}))
    assert "2 entries" in refused(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("archive/data.pkl", state_dict({}))
    assert "archive/data.pkl" in refused(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(tmp_path):
    path = write_zip(tmp_path / "m.pth", state_dict({"a": tensor()}), {"0": VALUES.tobytes()})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/0", bytes(16))
    assert "two entries" in refused(path)


def test_the_folder_in_the_archive_may_have_any_name(tmp_path):
    for folder in ("", "../b/", "/abs/", "a/b/"):
        with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
            archive.writestr(f"{folder}data.pkl", state_dict({"a": tensor()}))
            archive.writestr(f"{folder}data/0", VALUES.tobytes())
        np.testing.assert_array_equal(read(tmp_path / "m.pth", "a"), VALUES)
    assert [each.name for each in tmp_path.iterdir()] == ["m.pth"]


def test_programs_and_pickled_modules_are_refused_with_what_to_do(tmp_path):
    path = tmp_path / "m.pth"
    write_zip(path, state_dict({}), {}, **{"constants.pkl": b"\x80\x02).", "code/net.py": b""})
    assert "TorchScript" in refused(path) and "state_dict()" in refused(path)
    module = b"\x80\x02cnets\nNet\n)\x81}" + text("_modules") + b"}sb."
    write_zip(path, module, {})
    assert "nets.Net" in refused(path) and "state_dict()" in refused(path)
    write_legacy(path, module.replace(b"cnets\nNet\n", b"(" + text("module") + b"cnets\nNet\nNNtQ"), {})
    assert "nets.Net" in refused(path)


def test_nested_beyond_reason_and_holding_itself_is_refused(tmp_path):
    assert "nested" in refused(write_zip(tmp_path / "m.pth", b"\x80\x02" + b"](" * 100 + b"e" * 100 + b".", {}))
    assert "nested" in refused(write_zip(tmp_path / "m.pth", b"\x80\x02]q\x00h\x00a.", {}))


def test_content_that_shares_itself_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mim_jax.weights.files.content.MOST_VALUES", 1000)
    doubled = b"".join(b"](h%ch%ceq%c" % (level, level, level + 1) for level in range(12))
    path = write_zip(tmp_path / "m.pth", b"\x80\x02Nq\x00" + doubled + b".", {})
    assert "1000 values" in refused(path)


def legacy(path, pickle=None, system=SYSTEM, **storages):
    pickle = pickle or state_dict({"a.weight": tensor(key="x", legacy=True), "b": tensor(key="y", legacy=True)})
    return write_legacy(path, pickle, storages or {"y": VALUES + 4, "x": VALUES}, system)


def test_the_old_format_reads(tmp_path):
    path = legacy(tmp_path / "m.pth")
    assert open_checkpoint(path).format == "torch legacy"
    np.testing.assert_array_equal(read(path), VALUES)
    np.testing.assert_array_equal(read(path, "b"), VALUES + 4)


def test_the_old_format_cut_off_anywhere_is_refused(tmp_path):
    path = legacy(tmp_path / "m.pth")
    data = path.read_bytes()
    for length in range(1, len(data), 9):
        path.write_bytes(data[:length])
        refused(path)


def test_storages_of_the_old_format_must_be_those_of_its_tensors(tmp_path):
    path = tmp_path / "m.pth"
    assert "storages" in refused(legacy(path, x=VALUES))
    assert "storages" in refused(legacy(path, x=VALUES, y=VALUES, z=VALUES))
    assert "storage y" in refused(legacy(path, x=VALUES, y=VALUES[:3]))
    sound = legacy(path, x=VALUES, y=VALUES).read_bytes()
    for keys in (b"]K\x01K\x02K\x03", text("x") + text("y") + text("y"), b"N"):
        path.write_bytes(sound.replace(text("x") + text("y") + b"e.", keys + b"e."))
        assert "storages" in refused(path)
    twice = {"a": tensor(key="x", legacy=True), "b": tensor(key="x", count=5, legacy=True)}
    assert "two sizes" in refused(legacy(path, state_dict(twice), x=VALUES))
    view = tensor(key="x", legacy=True).replace(b"NtQ", b"(" + text("view") + b"K\x00K\x02ttQ")
    assert "not supported" in refused(legacy(path, state_dict({"a": view}), x=VALUES))


def test_a_big_endian_file_of_the_old_format_is_refused(tmp_path):
    assert "big-endian" in refused(legacy(tmp_path / "m.pth", system=SYSTEM.replace(b"\x88", b"\x89")))


MEASURE = """
import resource, sys
from mim_jax.weights.files.checkpoint_file import open_checkpoint
content = open_checkpoint(sys.argv[1]).content
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for stored in content.values():
    assert stored.read().any()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in other units elsewhere")
def test_reading_tensor_by_tensor_needs_the_memory_of_one(tmp_path):
    count, size = 48, 2**18
    pickle = state_dict({f"{i}.weight": tensor(key=str(i), count=size, shape=(size,)) for i in range(count)})
    data = np.ones(size, np.float32).tobytes()
    path = write_zip(tmp_path / "m.pth", pickle, {str(i): data for i in range(count)})
    result = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 8 * 1024  # KiB, of a file of 48 MiB
