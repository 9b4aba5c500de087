"""Which values a statement about a model can have: one kind for every key, whoever states it."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from mim_jax.errors import InputError
from mim_jax.models.classifier import READOUTS
from mim_jax.models.initialization import KERNELS
from mim_jax.models.swin_config import CHOICES as SWIN_CHOICES
from mim_jax.models.vit_config import CHOICES as VIT_CHOICES
from mim_jax.ops.activations import ACTIVATIONS
from mim_jax.weights.files.tensors import shown

LARGEST = 1 << 14  # pixels of a side, channels, heads
WIDEST = 1 << 16
WIDEST_WINDOW = 64  # tokens; every pair in a window has an entry of its own
MOST_BLOCKS = 1000
MOST_STAGES = 16
LARGEST_NUMBER = 1e30


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of values.

    Attributes:
        words: what it is, behind "must be".
        read: gives a value as configurations have it, None for what is no such value.
    """

    words: str
    read: Callable[[object], Any]


def whole(low: int, high: int = LARGEST) -> Kind:
    """Whole numbers of a range."""
    read = lambda value: value if type(value) is int and low <= value <= high else None
    return Kind(f"a whole number from {low} to {high}", read)


def number(low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> Kind:
    """Finite numbers from `low` (or above it) to below `high`."""
    below = f"below {high:g}" if high < math.inf else ""
    limits = f"{'above' if above else 'from'} {low:g}" if low > -math.inf else ""

    def read(value: object) -> float | None:
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < LARGEST_NUMBER:
            return None
        return float(value) if (low < value if above else low <= value) and value < high else None

    return Kind(" ".join(filter(None, ["a number", limits, below])), read)


def choice(*values: object) -> Kind:
    """One of a few values, of the very type."""
    there = lambda value: any(type(value) is type(each) and value == each for each in values)
    known = ", ".join(map(str, filter(lambda value: value != "", values)))
    return Kind(f"one of {known}", lambda value: value if there(value) else None)


def several(kind: Kind, low: int, high: int) -> Kind:
    """Tuples of a few values of a kind."""

    def read(value: object) -> tuple[Any, ...] | None:
        values = tuple(map(kind.read, value)) if isinstance(value, (list, tuple)) else (None,)
        return values if low <= len(values) <= high and None not in values else None

    return Kind(f"{low if low == high else f'{low} to {high}'} values like 1,2, each {kind.words}", read)


def one_or_several(kind: Kind, low: int, high: int) -> Kind:
    """The same, or one value by itself, which is a tuple of one."""
    tuples = several(kind, low, high)
    read = lambda value: tuples.read(value if isinstance(value, (list, tuple)) else (value,))
    return Kind(f"{kind.words}, or {low} to {high} of them", read)


def pair(kind: Kind) -> Kind:
    """Rows and columns; one value is both, and so is a dictionary of Hugging Face."""
    tuples = several(kind, 2, 2)

    def read(value: object) -> tuple[Any, ...] | None:
        if isinstance(value, Mapping):
            value = (value.get("height"), value.get("width"))
        return tuples.read(value if isinstance(value, (list, tuple)) else (value, value))

    return Kind(f"{kind.words}, or 2 of them, height and width", read)


FLAG = choice(True, False)
KERNEL = choice(*KERNELS)
SIDE = whole(1, WIDEST_WINDOW)
WINDOW = Kind(f"{pair(SIDE).words} (for one a stage --set windows=12,12,12,6)", pair(SIDE).read)

NUMBERS = one_or_several(number(), 1, LARGEST)
MEAN = one_or_several(number(0.0, 1.0), 1, LARGEST)  # of pixels from 0 to 1
DEVIATION = one_or_several(number(0.0, 2.0, above=True), 1, LARGEST)
EPSILON = number(0.0, 1.0, above=True)
SHARE = number(0.0, 1.0)

COMMON: dict[str, Kind] = {
    "image_size": pair(whole(1)),
    "patch_size": pair(whole(1)),
    "channels": whole(1),
    "width": whole(1, WIDEST),
    "mlp_ratio": number(0.0, 1024.0, above=True),
    "mask_token": FLAG,
    "final_norm": FLAG,
    "norm_epsilon": EPSILON,
    "drop_path_rate": SHARE,
    "kernel_init": KERNEL,
    "embedding_init": KERNEL,
    "readout": choice(*READOUTS),
    "mean": MEAN,
    "std": DEVIATION,
    "mask_ratio": SHARE,
    "mask_patch": whole(1),
    "normalise_target": FLAG,
    "decoder.num_heads": whole(1),
    "decoder.norm_epsilon": EPSILON,
    "decoder.activation": choice(*ACTIVATIONS),
}
"""Key that can be stated of every family to its kind: what all encoders have, and what stands around them."""

KINDS: dict[str, dict[str, Kind]] = {
    "vision_transformer": COMMON
    | {key: choice(*values) for key, values in VIT_CHOICES.items()}
    | {
        "depth": whole(1, MOST_BLOCKS),
        "num_heads": whole(1),
        "class_token": FLAG,
        "distillation_token": FLAG,
        "registers": whole(0),
        "position_prefix": whole(0),
        "query_key_norm": FLAG,
        "layer_scale": number(0.0),
        "rescale_by_depth": FLAG,
    },
    "swin_transformer": COMMON
    | {key: choice(*values) for key, values in SWIN_CHOICES.items()}
    | {
        "depths": several(whole(1, MOST_BLOCKS), 1, MOST_STAGES),
        "num_heads": several(whole(1), 1, MOST_STAGES),
        "window": WINDOW,
        "windows": several(SIDE, 0, MOST_STAGES),
        "pretrained_windows": several(whole(0, WIDEST_WINDOW), 0, MOST_STAGES),
        "pad_windows": FLAG,
        "shift_stages": several(FLAG, 0, MOST_STAGES),
        "branch_norm_scale": number(),
        "norm_every": whole(0, MOST_BLOCKS),
    },
}
"""Family of encoders to every key that can be stated of it, and its kind."""


def read(kind: Kind, value: object, key: str, where: str) -> Any:
    """A value as configurations have it; raises InputError, naming the key, for what is no such value."""
    found = kind.read(value)
    if found is None:
        raise InputError(f"{key} of {where} must be {kind.words}, not {written(value)}")
    return found


def written(value: object) -> str:
    """A value as it is written behind `--set`, as it may stand in a sentence."""
    return shown(",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
