"""Opens a file or folder of weights by what it holds, not by its name."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from mim_jax.errors import InputError, unreadable
from mim_jax.paths import local_path
from mim_jax.weights.files.content import checked
from mim_jax.weights.files.npz_file import is_npz, read_npz
from mim_jax.weights.files.safetensors_file import read_safetensors
from mim_jax.weights.files.tensors import shown
from mim_jax.weights.files.torch_file import is_torch_legacy, is_torch_zip, read_torch_legacy, read_torch_zip
from mim_jax.weights.files.torch_tar import read_torch_tar
from mim_jax.weights.files.zip_entries import zip_entries

HUGGING_FACE_FILES = ("model.safetensors", "pytorch_model.bin")
"""The files of Hugging Face that hold a model, the preferred one first; those in parts have an index of this name."""

INDEX_SUFFIX = ".index.json"
FOLDER = "Hugging Face folder"

_HEAD = 512
_TAR = slice(257, 262)
_KNOWN = "a file of torch.save, safetensors or .npz"

# First bytes of what is no checkpoint, what it is, and what to do.
_OTHERS = (
    (b"\x1f\x8b", "is compressed by gzip: unpack it first"),
    (b"BZh", "is compressed by bzip2: unpack it first"),
    (b"\xfd7zXZ", "is compressed by xz: unpack it first"),
    (b"7z\xbc\xaf", "is compressed by 7-zip: unpack it first"),
    (b"\x89HDF", "is an HDF5 file (Keras), which is not supported: get the weights for PyTorch"),
    (b"\x93NUMPY", "is a single NumPy array: give a file with names, such as np.savez writes"),
    (b"version https://git-lfs", "is a pointer of git-lfs instead of the file: run git lfs pull"),
    (b"\x80", "is a plain pickle, which torch.save did not write: save the weights with torch.save or np.savez"),
)

# What else lies in a folder of weights, and what to do.
_OTHER_FOLDERS = (
    (".metadata", "is a distributed checkpoint of PyTorch: join its parts by dcp_to_torch of PyTorch"),
    ("zero_to_fp32.py", "is a checkpoint of DeepSpeed in parts: join them by zero_to_fp32.py, which lies in it"),
    ("adapter_config.json", "holds an adapter (LoRA) of another model: merge it into that and save the whole"),
    ("tf_model.h5", "holds weights of TensorFlow only: get those for PyTorch"),
    ("flax_model.msgpack", "holds weights of Flax only: get those for PyTorch"),
)

_JAX_FILES = ("_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt", "checkpoints", "parameters.safetensors")


@dataclasses.dataclass(frozen=True, eq=False)
class CheckpointFile:
    """What a file or folder of weights holds.

    Attributes:
        path: what was opened.
        format: "torch zip", "torch legacy", "torch tar", "safetensors", "npz" or "Hugging Face folder".
        content: nested dicts, lists and tuples with `StoredTensor`s; arrays and `Opaque` objects may be among them.
        config: the config.json beside the weights.
        preprocessor: the preprocessor_config.json there.
        files: the files that hold the weights.
    """

    path: Path
    format: str
    content: Any = dataclasses.field(repr=False)
    config: dict[str, Any] | None = None
    preprocessor: dict[str, Any] | None = None
    files: tuple[Path, ...] = ()


def open_checkpoint(path: str | Path) -> CheckpointFile:
    """Opens weights; tensors are not read yet, nothing in the file is executed.

    Raises InputError, in one sentence, for what is missing, damaged, dangerous or no checkpoint.
    """
    path = local_path(path)
    try:
        if path.is_dir():
            return _open_folder(path)
        if path.name.endswith(INDEX_SUFFIX) and path.is_file():
            return _parts_of(path)
        if path.suffix == ".distcp":
            raise InputError(f"{path} is a part of a distributed checkpoint of PyTorch: join all parts by dcp_to_torch")
        kind, content = _open_file(path)
        return CheckpointFile(path, kind, content, *_configurations(path.parent), files=(path,))
    except OSError as error:
        raise unreadable(path, error) from error


def _open_file(path: Path) -> tuple[str, Any]:
    """Format and content of a file."""
    if not path.exists():
        raise InputError(f"there is no file or folder {path}: check the path")
    if not path.is_file():
        raise InputError(f"{path} is no ordinary file: give {_KNOWN}")
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if head[:4] == b"PK\3\4":
        return _open_zip(path)
    if is_torch_legacy(head):
        return "torch legacy", read_torch_legacy(path)
    if _is_safetensors(head):
        return "safetensors", read_safetensors(path)[0]
    if head[_TAR] == b"ustar":
        return "torch tar", read_torch_tar(path)
    raise InputError(f"{path} {_what_else(head)}")


def _open_zip(path: Path) -> tuple[str, Any]:
    entries = zip_entries(path)
    if is_torch_zip(entries):
        return "torch zip", read_torch_zip(path, entries)
    if is_npz(entries):
        return "npz", read_npz(path, entries)
    raise InputError(f"{path} is a zip archive, but not of torch.save or np.savez: unpack it and give what is in it")


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes of length, the last of them zero since headers are small, and the brace of the header."""
    return head[6:9] == b"\0\0{"


def _what_else(head: bytes) -> str:
    """What a file that begins so is instead of a checkpoint, and what to do."""
    known = next((reason for magic, reason in _OTHERS if head.startswith(magic)), "")
    if not head:
        return "is empty: get it again"
    if known:
        return known
    if _is_text(head):
        begin = shown(head.decode(errors="replace").strip(), 40)
        return f"is a text file ('{begin}'), as after a failed download: get it again"
    return f"is not a checkpoint: give {_KNOWN}"


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)


def _open_folder(folder: Path) -> CheckpointFile:
    """A folder of Hugging Face, whole or in parts."""
    names = [name + suffix for suffix in ("", INDEX_SUFFIX) for name in HUGGING_FACE_FILES]
    name = next((name for name in names if (folder / name).is_file()), None)
    if name is None:
        if reason := next((reason for file, reason in _OTHER_FOLDERS if (folder / file).exists()), ""):
            raise InputError(f"{folder} {reason}")
        if jax := next((name for name in _JAX_FILES if (folder / name).exists()), None):
            raise InputError(f"{folder} has {jax}, as a model in JAX has: it needs no conversion, use it as it is")
        raise InputError(f"{folder} has no model in it: there is none of {', '.join(names)}; give the file itself")
    if name.endswith(INDEX_SUFFIX):
        return dataclasses.replace(_parts_of(folder / name), path=folder)
    _, content = _open_file(folder / name)
    return CheckpointFile(folder, FOLDER, content, *_configurations(folder), files=(folder / name,))


def _parts_of(index: Path) -> CheckpointFile:
    """A folder of Hugging Face by the index of its parts."""
    content, files = _open_parts(index)
    return CheckpointFile(index, FOLDER, content, *_configurations(index.parent), files=files)


def _open_parts(index: Path) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """The tensors of all parts that an index names, and the parts."""
    places = (_json(index) or {}).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(part, str) for part in places.values()):
        raise InputError(f"{index} is damaged: it has no weight_map from tensors to files; get it again")
    parts = {part: _open_part(index, part) for part in sorted(set(places.values()))}
    content: dict[str, Any] = {}
    for tensors in parts.values():
        if twice := next((name for name in tensors if name in content), None):
            raise InputError(f"{index.parent} is refused: {shown(twice)} is in two of its parts; get them again")
        content |= tensors
    if missing := next((name for name, part in places.items() if name not in parts[part]), None):
        raise InputError(
            f"{index.parent} is incomplete: {shown(missing)} is not in {shown(places[missing])}, "
            f"where {index.name} says; get both again"
        )
    return checked(content, index.parent), tuple(index.parent / part for part in parts)


def _open_part(index: Path, part: str) -> dict[str, Any]:
    if Path(part).name != part or "\\" in part or "\0" in part:
        raise InputError(f"{index} is refused: it names {shown(part)}, which is no file beside it; get it again")
    if not (index.parent / part).is_file():
        raise InputError(f"{index.parent} is incomplete: there is no {shown(part)}, which {index.name} names; get it")
    _, content = _open_file(index.parent / part)
    if not isinstance(content, dict):
        raise InputError(f"{index.parent / part} is refused: it holds no tensors by name; get it again")
    return content


def _configurations(folder: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """config.json and preprocessor_config.json of a folder."""
    return _json(folder / "config.json"), _json(folder / "preprocessor_config.json")


def _json(path: Path) -> dict[str, Any] | None:
    """An object from a file, or None where there is no file."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: get it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: it should be a JSON object; get it again")
    return content
