"""Back out: a model's parameters under the names, and in the shapes, of another code."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from mim_jax.errors import InputError
from mim_jax.files import write_atomically
from mim_jax.models.presets import preset
from mim_jax.models.swin import SwinConfig
from mim_jax.paths import local_path
from mim_jax.pretraining.lut import Lut
from mim_jax.pretraining.mae import MaskedAutoencoder
from mim_jax.pretraining.simmim import SimMIM
from mim_jax.weights.arrangement import arrange_back
from mim_jax.weights.files.safetensors_writing import write_safetensors
from mim_jax.weights.layouts import LAYOUTS, Layout
from mim_jax.weights.model import Model
from mim_jax.weights.outputs import check_ending
from mim_jax.weights.rules import Rule


def natural_layout(model: Model) -> Layout:
    """The layout in which others expect such a model: its authors' where it is pre-trained, else timm's."""
    config = model.encoder_config
    if isinstance(config, SwinConfig):
        version = "swin" if config.version == 1 else "swinv2"
        return LAYOUTS[f"simmim_{version}" if isinstance(model.objective, SimMIM) else f"timm_{version}"]
    if isinstance(model.objective, SimMIM):
        return LAYOUTS["simmim_vit"]
    if isinstance(model.objective, (MaskedAutoencoder, Lut)):
        return LAYOUTS["mae"]
    if config.qkv_bias == "query_value":
        return LAYOUTS["beit"]
    return LAYOUTS["timm_vit_swiglu" if config.mlp == "swiglu" else "timm_vit"]


def export_arrays(model: Model, layout: str = "") -> dict[str, np.ndarray]:
    """The parameters under the names of a layout (by default that in which others expect them).

    Raises InputError if the layout has no name for one of them.
    """
    chosen = preset(LAYOUTS, layout, "layout") if layout else natural_layout(model)
    parameters = flatten_dict(model.parameters, sep="/")
    named: dict[str, np.ndarray] = {}
    for path in sorted(parameters):
        ways = chosen.sources_of(path)
        if not ways:
            raise InputError(
                f"the layout '{chosen.name}' has no name for {path}; choose another with --layout, such as "
                f"'{natural_layout(model).name}'"
            )
        rule, names = _way(ways, parameters)
        parts = arrange_back(np.asarray(parameters[path]), rule.pattern, len(names))
        front = chosen.front if path.startswith(chosen.fronted) else ""
        named |= {front + name: part for name, part in zip(names, parts)}
    return named


def _way(ways: list[tuple[Rule, tuple[str, ...]]], parameters: Mapping[str, Any]) -> tuple[Rule, tuple[str, ...]]:
    """The first of several names, which is the one of today; a distilled head has two names of its own."""
    if "head_dist/kernel" in parameters:
        ways = [way for way in ways if way[1][0].startswith("cls_")] or ways
    return ways[0]


def export(model: Model, output: Path, layout: str = "") -> Path:
    """Writes `.safetensors`, or `.pth` where torch is installed; returns the file.

    Raises InputError for any other ending, or if the disk refuses.
    """
    output = local_path(output)
    check_ending(output)
    arrays = export_arrays(model, layout)
    if output.suffix == ".safetensors":
        write_safetensors(output, {n: (a.dtype, a.shape, a) for n, a in arrays.items()}, {"format": "pt"})
        return output
    return write_atomically(output, _torch_file(arrays))


def _torch_file(arrays: Mapping[str, np.ndarray]) -> bytes:
    if importlib.util.find_spec("torch") is None:
        raise InputError("writing .pth needs torch, which is not installed; choose a name that ends in .safetensors")
    import io

    import torch

    buffer = io.BytesIO()
    torch.save({"model": {name: _tensor(torch, array) for name, array in arrays.items()}}, buffer)
    return buffer.getvalue()


def _tensor(torch: Any, array: np.ndarray) -> Any:
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())
