"""Reads the golden cases: arrays, settings and checkpoints made with the original PyTorch code."""

import json
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "golden"
_DTYPES = {"FloatStorage": np.float32, "DoubleStorage": np.float64, "LongStorage": np.int64}


def case(name: str) -> dict[str, Any]:
    """The settings of a case."""
    return json.loads((FOLDER / name / "case.json").read_text())


def arrays(name: str) -> dict[str, np.ndarray]:
    """The recorded inputs and outputs of a case."""
    with np.load(FOLDER / name / "arrays.npz") as stored:
        return dict(stored)


def channels_last(images: np.ndarray) -> np.ndarray:
    """NCHW to NHWC."""
    return np.ascontiguousarray(np.transpose(images, (0, 2, 3, 1)))


def checkpoint(name: str, key: str = "model") -> dict[str, np.ndarray]:
    """The tensors under `key` of a case's torch file (all of it if there is no such key), by their names there."""
    with zipfile.ZipFile(FOLDER / name / "checkpoint.pth") as archive:
        folder = archive.namelist()[0].split("/")[0]

        class Reader(pickle.Unpickler):
            def persistent_load(self, saved: Any) -> np.ndarray:
                return np.frombuffer(archive.read(f"{folder}/data/{saved[2]}"), _DTYPES[saved[1].name])

            def find_class(self, module: str, name: str) -> Any:
                if name == "_rebuild_tensor_v2":
                    return _rebuild
                return OrderedDict if name == "OrderedDict" else type(name, (), {"name": name})

        with archive.open(f"{folder}/data.pkl") as file:
            content = Reader(file).load()
    return content.get(key, content)


def _rebuild(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *rest: Any) -> np.ndarray:
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()


# Names of the original code to paths of ours; {} is the number of a block.
_NAMES = [
    (r"decoder_pos_embed", "decoder/pos_embed/table"),
    (r"mask_token", "decoder/mask_token"),
    (r"decoder_(embed|pred)\.(weight|bias)", r"decoder/\1/\2"),
    (r"decoder_norm\.(weight|bias)", r"decoder/norm/\1"),
    (r"decoder_blocks\.(\d+)\.(.*)", r"decoder/blocks/\1/\2"),
    (r"pos_embed", "encoder/pos_embed/table"),
    (r"cls_token", "encoder/cls_token"),
    (r"patch_embed\.proj\.(weight|bias)", r"encoder/patch_embed/\1"),
    (r"norm\.(weight|bias)", r"encoder/norm/\1"),
    (r"blocks\.(\d+)\.(.*)", r"encoder/blocks/\1/\2"),
    (r"((?:fc_norm|head|projector|predictor)\..*)", r"\1"),
]

# LUT's heads of two layers with batch norm, by their place in a torch Sequential; a classifier's head has other places.
_LUT_HEADS = {"head": "projector", "predictor": "predictor"}
_LUT_LAYERS = {"0": "layer0", "1": "norm0", "3": "layer1"}


def lut_name(name: str) -> str:
    """A name of LUT's original code with its heads renamed as `our_path` knows them."""
    head, _, rest = name.partition(".")
    if head not in _LUT_HEADS:
        return name
    layer, _, leaf = rest.partition(".")
    return f"{_LUT_HEADS[head]}.{_LUT_LAYERS[layer]}.{leaf}"


def our_path(name: str) -> tuple[str, ...]:
    """Path in our parameters of a parameter in the original code."""
    pattern, target = next((p, t) for p, t in _NAMES if re.fullmatch(p, name))
    *path, leaf = re.sub(pattern, target, name).replace(".", "/").split("/")
    if leaf == "weight":
        leaf = "scale" if "norm" in path[-1] else "kernel"
    return (*path, leaf)


def our_array(name: str, array: np.ndarray, num_heads: int) -> np.ndarray:
    """A tensor of the original code in the shape and order of ours."""
    if name.endswith(("pos_embed", "_token")):
        return array.reshape(array.shape[1:] if "pos" in name else -1)
    if name.endswith("patch_embed.proj.weight"):
        return array.transpose(2, 3, 1, 0)
    if ".qkv." in name:
        heads = (3, num_heads, array.shape[0] // (3 * num_heads))
        return array.reshape(heads) if array.ndim == 1 else array.T.reshape(-1, *heads)
    if name.endswith("attn.proj.weight"):
        return array.T.reshape(num_heads, -1, array.shape[0])
    return array.T


def our_parameters(tensors: dict[str, np.ndarray], model: dict[str, Any]) -> dict[str, Any]:
    """Our nested parameters from the original's flat ones."""
    tree: dict[str, Any] = {}
    for name, array in tensors.items():
        heads = model["decoder_num_heads"] if name.startswith("decoder_") else model["num_heads"]
        *path, leaf = our_path(name)
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[leaf] = our_array(name, array, heads)
    return tree


def relative_error(ours: Any, theirs: np.ndarray) -> float:
    """Largest difference over the largest magnitude."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
