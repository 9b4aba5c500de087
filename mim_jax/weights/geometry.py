"""Whether arrays can be what their names say: their axes, and whether they hold numbers at all."""

import re
from collections.abc import Mapping

import jax
import numpy as np

from mim_jax.errors import InputError
from mim_jax.weights.arrangement import axes_there
from mim_jax.weights.files.tensors import shown
from mim_jax.weights.layouts import Layout
from mim_jax.weights.matching import some
from mim_jax.weights.networks import Network
from mim_jax.weights.rules import Rule
from mim_jax.weights.state_dicts import is_tensor
from mim_jax.weights.strangers import stranger

Shape = tuple[int, ...]

BUFFERS = {r".*relative_position_index": 2, r".*relative_coords_table": 4, r".*attn_mask": 3}
"""Names of buffers that tell a window or an image size, and how many axes they have."""

TOKENS = {
    "encoder/cls_token": "class tokens, and one is supported",
    "encoder/dist_token": "distillation tokens, and one is supported",
}

KERNEL = "encoder/patch_embed/kernel"


def check_network(network: Network, lenient: bool) -> None:
    """Raises InputError for a network without numbers, of a kind that is known not to be read, or not all in one place.

    Lenient, what is not known and what lies elsewhere is left out by the user's wish.
    """
    sizes = [value.shape for value in network.values.values() if is_tensor(value)]
    empty = sum(0 in shape for shape in sizes)
    if 2 * empty > len(sizes):
        raise InputError(
            f"{empty} of its {len(sizes)} arrays are empty, as in a shard of DeepSpeed's ZeRO-3 or FSDP, whose numbers "
            "lie in other files; gather them into one state dict (DeepSpeed: zero_to_fp32.py) and take that"
        )
    if network.recognition and not lenient and (known := stranger(network.recognition.unknown, network.values)):
        raise InputError(known)
    if network.apart and not lenient:
        raise InputError(
            f"{some(list(map(shown, network.apart)))} lies outside '{network.name}', where the rest of the encoder is; "
            "rename it, or leave it out with --lenient"
        )


def is_usual_buffer(name: str, shape: Shape) -> bool:
    """Whether a buffer has the axes that those of its name have, and numbers; other arrays always are."""
    axes = next((count for expression, count in BUFFERS.items() if re.fullmatch(expression, name)), len(shape))
    return len(shape) == axes and 0 not in shape


def check_axes(
    layout: Layout,
    targets: Mapping[str, Mapping[str, tuple[Rule, int]]],
    values: Mapping[str, object],
    own: Mapping[str, str],
) -> None:
    """Raises InputError, naming the array, for one of no such numbers, or with other axes than its rule has."""
    for path, parts in targets.items():
        for name, (rule, _) in parts.items():
            value, theirs = values[name], shown(own[name], 160)
            if is_tensor(value):
                if not jax.dtypes.issubdtype(value.dtype, np.floating):
                    raise InputError(f"{theirs} has numbers of type {value.dtype}, which cannot be weights")
                _check(theirs, path, tuple(value.shape), axes_there(rule.pattern, len(rule.sources)))


def _check(name: str, path: str, shape: Shape, axes: list[str]) -> None:
    if len(shape) != len(axes):
        over_time = path == KERNEL and len(shape) == 5
        kind = ", for images over time (Conv3d), which is not supported" if over_time else ""
        raise InputError(
            f"{name} has {_axes(len(shape))} (shape {list(shape)}){kind}; {_axes(len(axes))} would be right where it is"
        )
    if 0 in shape:
        raise InputError(f"{name} is empty (shape {list(shape)}); take a file that has its numbers")
    if path in TOKENS and shape[1] != 1:
        raise InputError(f"{name} holds {shape[1]} {TOKENS[path]} (shape {list(shape)})")
    if any(axis == "1" and size != 1 for axis, size in zip(axes, shape)):
        ones = [1 if axis == "1" else size for axis, size in zip(axes, shape)]
        raise InputError(f"{name} has shape {list(shape)}, but {ones} is needed where it stands")


def _axes(number: int) -> str:
    return "1 axis" if number == 1 else f"{number} axes"
