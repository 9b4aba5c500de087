"""Opening weights by what they are: the golden bad and awkward files, folders, and what is no checkpoint."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.weights.files.checkpoint_file import open_checkpoint
from mim_jax.weights.files.content import walk
from mim_jax.weights.files.hashing import sha256_of
from mim_jax.weights.files.safetensors_writing import write_safetensors
from mim_jax.weights.files.tensors import StoredTensor
from tests.weights.writing import state_dict, tensor, write_zip

GOLDEN = Path(__file__).parents[1] / "golden"
BAD = GOLDEN / "bad"
EXPECTED = json.loads((BAD / "expected.json").read_text())["files"]

# Refused for their names, shapes or values, which is no matter of the container.
SOUND_CONTAINERS = {
    f"{name}.pth"
    for name in (
        "missing_block missing_tensor extra_key transposed_tensor wrong_shape extra_axis one_channel nan_weight "
        "inf_weight integer_weight complex_weight list_instead_of_tensor ambiguous_prefix empty_state_dict no_weights "
        "bare_tensor list_of_tensors other_architecture none_values"
    ).split()
}
LOADED = [name for name, entry in EXPECTED.items() if entry["outcome"] in ("load", "either")]
REFUSED = [name for name, entry in EXPECTED.items() if entry["outcome"] == "refuse" and name not in SOUND_CONTAINERS]

# Files whose numbers are those of good.pth rounded to their own types; one bias of the views is an expanded number.
ROUNDED = {f"{name}{suffix}" for name in ("bfloat16", "float16") for suffix in (".pth", ".safetensors")}
ROUNDED |= {"mixed_dtypes.pth"}
OTHER_NUMBERS = {"views_and_shared_storage.pth": {"decoder_pred.bias"}}


def numbers(content) -> dict[str, np.ndarray]:
    """Every array by the last part of its place, without what training puts before names."""
    found = {}
    for place, value in walk(content):
        if isinstance(value, StoredTensor | np.ndarray):
            name = (
                "".join(map(str, place[-1:])).removeprefix("module.").removeprefix("_orig_mod.").removeprefix("model.")
            )
            found[name] = value.read() if isinstance(value, StoredTensor) else value
    return found


def refused(path, *named: str) -> str:
    with pytest.raises(InputError) as raised:
        numbers(open_checkpoint(path).content)
    message = str(raised.value)
    assert "\n" not in message and len(message) < 400 and all(name in message for name in (*named, str(path)))
    return message


@pytest.fixture(scope="module")
def good():
    found = numbers(open_checkpoint(BAD / "good.pth").content)
    assert len(found) == 50
    return found


@pytest.mark.parametrize("name", sorted(set(LOADED) - {"legacy_mae_pretrain.pth"}))
def test_awkward_files_give_the_numbers_of_the_ordinary_one(name, good):
    found = numbers(open_checkpoint(BAD / name).content)
    assert set(good) <= set(found)
    for key, array in good.items():
        if key not in OTHER_NUMBERS.get(name, ()):
            expected = array.astype(found[key].dtype) if name in ROUNDED else array
            assert found[key].dtype == expected.dtype, key
            np.testing.assert_array_equal(found[key], expected, err_msg=key)


def test_an_expanded_number_reads_as_many():
    found = open_checkpoint(BAD / "views_and_shared_storage.pth").content["model"]["decoder_pred.bias"]
    assert found.strides == (0,) and found.read().shape == (48,) and np.ptp(found.read()) == 0


def test_the_old_format_gives_the_numbers_of_the_new_one():
    old = numbers(open_checkpoint(BAD / "legacy_mae_pretrain.pth").content)
    new = numbers(open_checkpoint(GOLDEN / "mae_pretrain" / "checkpoint.pth").content)
    assert list(old) == list(new)
    for name, array in new.items():
        np.testing.assert_array_equal(old[name], array)


@pytest.mark.parametrize("name", sorted(SOUND_CONTAINERS))
def test_what_only_an_importer_can_refuse_reads(name):
    assert open_checkpoint(BAD / name).format == "torch zip"
    numbers(open_checkpoint(BAD / name).content)


@pytest.mark.parametrize("name", REFUSED)
def test_files_with_calls_and_damaged_files_are_refused_in_one_line(name, recwarn):
    refused(BAD / name, *EXPECTED[name].get("message_should_name", ()))
    assert not recwarn.list  # a call would have warned


def test_files_with_calls_say_what_they_would_call():
    assert "_warnings.warn" in refused(BAD / "call_beside_weights.pth")


def test_settings_beside_the_weights_can_be_looked_up():
    settings = open_checkpoint(BAD / "namespace.pth").content["args"]
    assert settings.name == "argparse.Namespace" and isinstance(settings.state, dict)
    config = open_checkpoint(BAD / "config_object.pth").content["config"]
    assert config.name == "yacs.config.CfgNode" and config.items
    history = open_checkpoint(BAD / "opaque_objects.pth").content
    assert history["history"].tolist() == [0, 1, 2, 3, 4] and history["epoch"] == 3 and history["seen"] == {1, 2}


def test_formats_are_told_by_content(tmp_path):
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    shutil.move(tmp_path / "arrays.npz", tmp_path / "arrays.safetensors")
    formats = {
        BAD / "good.pth": "torch zip",
        BAD / "legacy_format.pth": "torch legacy",
        BAD / "good.safetensors": "safetensors",
        BAD / "pth_renamed.safetensors": "torch zip",
        BAD / "safetensors_renamed.pth": "safetensors",
        tmp_path / "arrays.safetensors": "npz",
    }
    assert {path: open_checkpoint(path).format for path in formats} == formats
    assert open_checkpoint(BAD / "good.pth").files == (BAD / "good.pth",)
    assert open_checkpoint(str(BAD / "good.pth")).config is None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_numpy_stay_in_their_file(tmp_path, save):
    arrays = {
        "block/kernel": np.arange(6.0).reshape(2, 3), "transposed": np.arange(6).reshape(2, 3).T, "scalar": np.array(1),
        "big": np.arange(3, dtype=">f4"), "empty": np.zeros((0, 2)), "flags": np.array([True, False]),
        "complex": np.array([1j, 2], ">c8"), "half": np.ones((1, 2, 1), np.float16),
    }  # fmt: skip
    save(tmp_path / "m.npz", **arrays)
    content = open_checkpoint(tmp_path / "m.npz").content
    assert set(content) == set(arrays)
    for name, array in arrays.items():
        found = content[name].read()
        assert found.dtype == array.dtype.newbyteorder("=") and content[name].shape == array.shape
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    "array", [np.array([{}]), np.zeros(1, [("a", "f4")]), np.array(["a"]), np.zeros(1, "V2"), np.zeros(1, "M8[s]")]
)
def test_arrays_that_are_no_numbers_are_refused_by_name(tmp_path, array):
    np.savez(tmp_path / "m.npz", allow_pickle=True, weight=array)
    refused(tmp_path / "m.npz", "weight.npy")


def damage(path: Path, old: bytes, new: bytes) -> Path:
    """The archive with other bytes in its arrays, and checksums to match."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name).replace(old, new) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"(2, 3)", b"(2, 4)"), (b"(2, 3)", b"(-2,3)"), (b"<f8", b"<f9"), (b"NUMPY", b"NUMPX"), (b"{", b"["),
     (b"(2, 3)", b"(" * 6), (b"v\0{", b"\xff\xff{"), (b"'descr'", b"'dexcr'")],
)  # fmt: skip
def test_damaged_arrays_are_refused_by_name(tmp_path, old, new):
    np.savez(tmp_path / "m.npz", weight=np.arange(6.0).reshape(2, 3))
    refused(damage(tmp_path / "m.npz", old, new), "weight.npy")


def part(path: Path, *names: str) -> None:
    array = np.ones(2, np.float32)
    write_safetensors(path, {name: (array.dtype, array.shape, array) for name in names})


def index(folder: Path, **places: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def test_a_folder_of_hugging_face_has_its_configuration(tmp_path):
    found = open_checkpoint(GOLDEN / "hf_vit")
    assert found.format == "Hugging Face folder" and found.config["model_type"] == "vit"
    assert found.files == (GOLDEN / "hf_vit" / "model.safetensors",) and found.preprocessor is None
    same = open_checkpoint(GOLDEN / "hf_vit" / "model.safetensors")
    assert same.format == "safetensors" and same.config == found.config and set(same.content) == set(found.content)
    assert open_checkpoint(GOLDEN / "hf_vit" / "checkpoint.pth").config == found.config
    shutil.copytree(GOLDEN / "hf_vit", tmp_path / "model")
    (tmp_path / "model" / "preprocessor_config.json").write_text('{"size": 224}')
    assert open_checkpoint(tmp_path / "model").preprocessor == {"size": 224}
    shutil.move(tmp_path / "model" / "model.safetensors", tmp_path / "model.safetensors")
    shutil.move(tmp_path / "model" / "checkpoint.pth", tmp_path / "model" / "pytorch_model.bin")
    assert open_checkpoint(tmp_path / "model").files == (tmp_path / "model" / "pytorch_model.bin",)
    assert open_checkpoint(tmp_path / "model" / "pytorch_model.bin").config == found.config
    assert open_checkpoint(tmp_path / "model.safetensors").config is None


def test_a_model_in_parts_is_one(tmp_path):
    part(tmp_path / "a.safetensors", "x.weight", "x.bias")
    part(tmp_path / "b.safetensors", "y.weight")
    index(tmp_path, **{"x.weight": "a.safetensors", "x.bias": "a.safetensors", "y.weight": "b.safetensors"})
    found = open_checkpoint(tmp_path)
    assert set(found.content) == {"x.weight", "x.bias", "y.weight"} and found.content["y.weight"].read().tolist() == [
        1,
        1,
    ]
    assert found.files == (tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    (tmp_path / "model.safetensors.index.json").unlink()
    write_zip(tmp_path / "a.bin", state_dict({"z": tensor()}), {"0": bytes(16)})
    (tmp_path / "pytorch_model.bin.index.json").write_text('{"weight_map": {"z": "a.bin"}}')
    assert set(open_checkpoint(tmp_path).content) == {"z"}


def test_an_index_that_does_not_fit_its_parts_is_refused(tmp_path):
    part(tmp_path / "a.safetensors", "x.weight")
    index(tmp_path, **{"x.weight": "a.safetensors", "y.weight": "b.safetensors"})
    refused(tmp_path, "b.safetensors")
    index(tmp_path, **{"x.weight": "a.safetensors", "y.weight": "a.safetensors"})
    refused(tmp_path, "y.weight", "a.safetensors")
    part(tmp_path / "b.safetensors", "x.weight", "y.weight")
    index(tmp_path, **{"x.weight": "a.safetensors", "y.weight": "b.safetensors"})
    refused(tmp_path, "x.weight")


@pytest.mark.parametrize(
    "name", ["../out.safetensors", "/abs/a.safetensors", "sub/a.safetensors", "..", ".", "", "a\\b", "a\0b"]
)
def test_an_index_may_name_files_beside_it_only(tmp_path, name):
    part(tmp_path / "out.safetensors", "x")
    (tmp_path / "model" / "sub").mkdir(parents=True)
    part(tmp_path / "model" / "sub" / "a.safetensors", "x")
    index(tmp_path / "model", x=name)
    refused(tmp_path / "model")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "[" * 100_000])
def test_a_damaged_index_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    refused(tmp_path, "index.json")


def test_a_damaged_configuration_is_refused_by_its_name(tmp_path):
    part(tmp_path / "model.safetensors", "x")
    (tmp_path / "config.json").write_text("{")
    refused(tmp_path, "config.json")


def test_a_folder_without_a_model_is_refused(tmp_path):
    assert "model.safetensors" in refused(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    assert "JAX" in refused(tmp_path)


OTHERS = {
    "empty": b"",
    "text file": b"<!DOCTYPE html>\n<html><title>404 Not Found</title>\n" * 20,
    "git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "gzip": b"\x1f\x8b\x08\0" + bytes(100),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "NumPy array": b"\x93NUMPY\x01\0v\0{",
    "plain pickle": b"\x80\x04K\x01.",
    "tar archive": bytes(257) + b"ustar" + bytes(300),
    "not a checkpoint": bytes(range(256)) * 4,
    "zip archive": b"PK\3\4" + bytes(100),
}


@pytest.mark.parametrize("said", OTHERS)
def test_what_is_no_checkpoint_is_called_by_its_name(tmp_path, said):
    (tmp_path / "model.pth").write_bytes(OTHERS[said])
    assert said in refused(tmp_path / "model.pth")


def test_what_is_not_there_or_no_file_is_refused(tmp_path):
    assert "there is no" in refused(tmp_path / "missing.pth")
    assert "there is no" in refused(tmp_path / "missing" / "model.pth")
    os.mkfifo(tmp_path / "pipe")
    assert "no ordinary file" in refused(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "model.pth")


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    shutil.copy(BAD / "good.pth", tmp_path / "model.pth")
    (tmp_path / "model.pth").chmod(0)
    assert "cannot read" in refused(tmp_path / "model.pth")


def test_a_disk_that_fails_is_a_clear_refusal(monkeypatch):
    def fail(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", fail)
    for name in ("good.pth", "legacy_format.pth", "good.safetensors"):
        with pytest.raises(InputError, match="cannot read .*: Permission denied"):
            open_checkpoint(BAD / name)
    with pytest.raises(InputError, match="Permission denied"):
        sha256_of([BAD / "good.pth"])


@pytest.mark.parametrize("spaces", range(0, 256, 8))
def test_no_length_of_a_header_is_mistaken_for_another_format(tmp_path, spaces):
    part(tmp_path / "model", "x" * (1 + spaces))
    assert open_checkpoint(tmp_path / "model").format == "safetensors"


def test_the_fingerprint_is_the_usual_one_of_a_single_file(tmp_path):
    data = (BAD / "good.pth").read_bytes()
    assert sha256_of([BAD / "good.pth"]) == hashlib.sha256(data).hexdigest()
    assert sha256_of([BAD / "good.pth"] * 2) == hashlib.sha256(data * 2).hexdigest()


def test_reading_needs_neither_jax_nor_torch():
    code = (
        "import sys; from mim_jax.weights.files.checkpoint_file import open_checkpoint; "
        f"open_checkpoint({str(BAD / 'good.pth')!r}); assert not {{'jax', 'torch', 'flax'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
