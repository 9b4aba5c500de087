"""Conversion: the bytes that it writes, what it leaves behind when it fails, and the memory that it takes."""

import _thread
import hashlib
import json
import shutil
import signal
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import mim_jax
from mim_jax.errors import InputError
from mim_jax.weights.converting import convert, convert_adapted
from mim_jax.weights.files.hashing import hashing
from mim_jax.weights.files.safetensors_file import read_safetensors
from mim_jax.weights.files.safetensors_writing import write_safetensors
from mim_jax.weights.importing import Import, Options
from tests import golden_cases as golden
from tests.weights.limits import file_size_limit
from tests.weights.test_import_parity import statements

CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def file_of(arrays):
    """The bytes of a safetensors file, as plainly as they can be made."""
    header, data = {"__metadata__": {"format": "mim_jax"}}, b""
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):
        begin, data = len(data), data + np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": CODES[array.dtype.name], "shape": array.shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def options_of(name, **options):
    return Options(stated=statements(name), **options)


def sharded(folder):
    """A Hugging Face folder whose tensors, with queries, keys and values apart, are in two types and two files."""
    source = golden.FOLDER / "hf_vit"
    folder.mkdir()
    shutil.copy(source / "config.json", folder)
    stored, _ = read_safetensors(source / "model.safetensors")
    parts = [dict(list(stored.items())[half::2]) for half in range(2)]
    names = [f"model-0000{half}-of-00002.safetensors" for half in (1, 2)]
    for name, dtype, part in zip(names, (np.float32, ml_dtypes.bfloat16), parts):
        write_safetensors(folder / name, {key: (dtype, tensor.shape, tensor.read()) for key, tensor in part.items()})
    places = {key: name for name, part in zip(names, parts) for key in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder, [folder / name for name in names]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64", "keep"])
@pytest.mark.parametrize("name", ["mae_pretrain", "hf_vit", "sharded"])
def test_the_file_has_the_bytes_of_the_arrays_in_order(name, dtype, tmp_path):
    if name == "sharded":
        source, files = sharded(tmp_path / "parts")
    else:
        file = "checkpoint.pth" if name == "mae_pretrain" else "model.safetensors"
        source = golden.FOLDER / name / file
        files = [source]
    case = "hf_vit" if name == "sharded" else name
    convert(source, tmp_path / "model", options_of(case, dtype=dtype))
    model = mim_jax.load(source, stated=statements(case), dtype=dtype)
    arrays = {path: np.asarray(leaf) for path, leaf in flatten_dict(model.parameters, sep="/").items()}
    assert (tmp_path / "model" / "parameters.safetensors").read_bytes() == file_of(arrays)
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    assert json.loads((tmp_path / "model" / "model.json").read_text())["origin"]["sha256"] == digest


def spoil(monkeypatch, spoiled):
    """Has `spoiled` called when the tenth array is read."""
    read, count = Import.read, iter(range(10**6))
    monkeypatch.setattr(Import, "read", lambda self, entry: (next(count) == 10 and spoiled()) or read(self, entry))


def test_an_interruption_in_the_middle_leaves_nothing(tmp_path, monkeypatch, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    spoil(monkeypatch, _thread.interrupt_main)
    with pytest.raises(KeyboardInterrupt):
        convert(golden.FOLDER / "mae_pretrain" / "checkpoint.pth", tmp_path / "a" / "model", options_of("mae_pretrain"))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_in_the_middle_is_told_by_the_name_of_the_folder(tmp_path):
    source = golden.FOLDER / "mae_pretrain" / "checkpoint.pth"
    with file_size_limit(100_000), pytest.raises(InputError) as raised:
        convert(source, tmp_path / "model", options_of("mae_pretrain"))
    said = f"cannot write {tmp_path / 'model'}: File too large; make room there or choose another folder"
    assert str(raised.value) == said and not list(tmp_path.iterdir())


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize(("number", "said"), [(np.nan, "holds NaN or infinity"), (1e30, "holds numbers beyond")])
def test_numbers_that_are_none_are_told_by_name_and_leave_nothing(number, said, adapted, tmp_path):
    weights = golden.checkpoint("mae_pretrain")
    weights["blocks.1.mlp.fc2.weight"][3, 5] = number
    np.savez(tmp_path / "m.npz", **weights)
    options = options_of("mae_pretrain", dtype="float16")
    with pytest.raises(InputError, match=f"m.npz: blocks.1.mlp.fc2.weight {said}"):
        if adapted:
            convert_adapted(tmp_path / "m.npz", tmp_path / "model", options, {}, keep_head=True)
        else:
            convert(tmp_path / "m.npz", tmp_path / "model", options)
    assert [path.name for path in tmp_path.iterdir()] == ["m.npz"]


def test_hashing_that_is_left_ends_at_once(tmp_path):
    (tmp_path / "large").touch()
    with open(tmp_path / "large", "r+b") as file:
        file.truncate(1 << 34)  # a minute's work, and no room on the disk
    with pytest.raises(InputError), hashing([tmp_path / "large"]):
        raise InputError("something else is wrong")


MEMORY = """
import resource, sys
from pathlib import Path
from mim_jax.weights.converting import convert
from mim_jax.weights.importing import understand
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
understand(sys.argv[1])
before = peak()
convert(sys.argv[1], Path(sys.argv[2]))
print(peak() - before)
"""


def test_memory_is_that_of_a_few_arrays(tmp_path):
    width, depth = 768, 7
    shapes = {
        "cls_token": (1, 1, width), "pos_embed": (1, 197, width), "norm.weight": (width,), "norm.bias": (width,),
        "patch_embed.proj.weight": (width, 3, 16, 16), "patch_embed.proj.bias": (width,),
    }  # fmt: skip
    block = {
        "norm1.weight": (width,), "norm1.bias": (width,), "norm2.weight": (width,), "norm2.bias": (width,),
        "attn.qkv.weight": (3 * width, width), "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width), "attn.proj.bias": (width,),
        "mlp.fc1.weight": (4 * width, width), "mlp.fc1.bias": (4 * width,),
        "mlp.fc2.weight": (width, 4 * width), "mlp.fc2.bias": (width,),
    }  # fmt: skip
    shapes |= {f"blocks.{number}.{name}": shape for number in range(depth) for name, shape in block.items()}
    file = tmp_path / "model.safetensors"
    write_safetensors(file, {name: (np.float32, shape, np.ones(shape)) for name, shape in shapes.items()})
    assert file.stat().st_size > 200e6
    code = [sys.executable, "-c", MEMORY, str(file), str(tmp_path / "model")]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    assert float(done.stdout) < 64  # of 191 MiB
