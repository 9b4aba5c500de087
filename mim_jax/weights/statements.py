"""What can be stated of a checkpoint: a key, and which values it can have."""

import dataclasses
import math
from collections.abc import Callable, Mapping

from mim_jax.errors import InputError
from mim_jax.models.initialization import KERNELS
from mim_jax.models.swin_config import CHOICES as SWIN_CHOICES
from mim_jax.models.vit_config import CHOICES as VIT_CHOICES
from mim_jax.pretraining.supervised import READOUTS
from mim_jax.weights.files.tensors import shown

LARGEST = 1 << 14  # pixels of a side, channels, heads
WIDEST_WINDOW = 64  # tokens; every pair in a window has an entry of its own
MOST_PATCHES = 1 << 18
MOST_STAGES = 16


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of values: what it is in words, and whether a value is of it."""

    words: str
    holds: Callable[[object], bool]


def whole(low: int, high: int = LARGEST) -> Kind:
    """Whole numbers of a range."""
    return Kind(f"a whole number from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


def number(low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> Kind:
    """Finite numbers from `low` (or above it) to below `high`."""
    below = f"below {high:g}" if high < math.inf else ""
    limits = f"{'above' if above else 'from'} {low:g}" if low > -math.inf else ""

    def holds(value: object) -> bool:
        if not isinstance(value, int | float) or type(value) not in (int, float) or not abs(value) < math.inf:
            return False
        return (low < value if above else low <= value) and value < high

    return Kind(" ".join(filter(None, ["a number", limits, below])), holds)


def choice(*values: object) -> Kind:
    """One of a few values, of the very type."""
    words = "one of " + ", ".join(map(str, values))
    return Kind(words, lambda value: any(type(value) is type(each) and value == each for each in values))


def several(kind: Kind, low: int, high: int, or_one: bool = False) -> Kind:
    """A few values of a kind with commas between; also a single one by itself, if `or_one`."""
    count = f"{low}" if low == high else f"{low} to {high}"
    words = f"{count} values like 1,2, each {kind.words}" if not or_one else f"{kind.words}, or {count} of them"

    def holds(value: object) -> bool:
        if not isinstance(value, tuple):
            return or_one and kind.holds(value)
        return low <= len(value) <= high and all(map(kind.holds, value))

    return Kind(words, holds)


FLAG = choice(True, False)
KERNEL = choice(*KERNELS)

COMMON = {
    "image_size": several(whole(1), 2, 2, or_one=True),
    "patch_size": several(whole(1), 2, 2, or_one=True),
    "channels": whole(1),
    "width": whole(1, 1 << 16),
    "mlp_ratio": number(0.0, 1024.0, above=True),
    "mask_token": FLAG,
    "final_norm": FLAG,
    "norm_epsilon": number(0.0, 1.0, above=True),
    "drop_path_rate": number(0.0, 1.0),
    "kernel_init": KERNEL,
    "embedding_init": KERNEL,
    "readout": choice(*READOUTS),
    "mean": several(number(0.0, 1.0), 1, LARGEST, or_one=True),  # pixels are 0 to 1
    "std": several(number(0.0, 2.0, above=True), 1, LARGEST, or_one=True),
    "mask_ratio": number(0.0, 1.0),
    "mask_patch": whole(1),
    "normalise_target": FLAG,
    "decoder.num_heads": whole(1),
    "decoder.norm_epsilon": number(0.0, 1.0, above=True),
}

_WINDOW = several(whole(1, WIDEST_WINDOW), 2, 2, or_one=True)
WINDOW = Kind(f"{_WINDOW.words} (rows and columns; for one a stage --set windows=12,12,12,6)", _WINDOW.holds)

KINDS: dict[str, dict[str, Kind]] = {
    "vision_transformer": COMMON
    | {key: choice(*values) for key, values in VIT_CHOICES.items()}
    | {
        "depth": whole(1, 1000),
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
        "depths": several(whole(1, 1000), 1, MOST_STAGES),
        "num_heads": several(whole(1), 1, MOST_STAGES),
        "window": WINDOW,
        "windows": several(whole(1, WIDEST_WINDOW), 0, MOST_STAGES),
        "pretrained_windows": several(whole(0, WIDEST_WINDOW), 0, MOST_STAGES),
        "pad_windows": FLAG,
        "shift_stages": several(FLAG, 0, MOST_STAGES),
        "branch_norm_scale": number(),
        "norm_every": whole(0, 1000),
    },
}
"""Family to the kind of values of every key."""

SEEN = (
    "version", "width", "channels", "patch_size", "depths", "mlp", "class_token", "distillation_token", "registers",
    "mask_token", "query_key_norm", "final_norm", "relative_position_bias", "num_heads",
)  # fmt: skip
"""Fields that shapes show; what is stated can only agree."""

TABLES = ("encoder/pos_embed/table", "decoder/pos_embed/table")


def check_value(key: str, value: object, family: str, where: str) -> None:
    """Raises InputError, naming the key, for a value that it cannot have; other keys are not looked at."""
    kind = KINDS[family].get(key)
    if kind is not None and not kind.holds(value):
        raise InputError(f"{key} of {where} must be {kind.words}, not {shown(repr(value))}")


def check_seen(given: Mapping[str, object], fields: Mapping[str, object]) -> None:
    """Raises InputError, naming the key, where what is stated is not what the arrays show."""
    for key in SEEN:
        if key in given and key in fields and given[key] != fields[key]:
            raise InputError(
                f"{key}={_written(given[key])} is stated, but its arrays show {_written(fields[key])}; leave it out"
            )
    position = given.get("position", fields.get("position"))
    if (position == "none") != (fields.get("position") == "none"):
        there = "no table" if position != "none" else "a table"
        raise InputError(f"position={position} is stated, but it has {there} of positions; leave it out")


def check_image_size(
    given: Mapping[str, object], arrays: Mapping[str, tuple[int, ...]], names: Mapping[str, str]
) -> None:
    """Raises InputError for a stated size with more patches than its tables have positions.

    `arrays` are shapes by our path, `names` the names in the file by the same.
    """
    size = given.get("image_size")
    patch = given.get("patch_size", arrays["encoder/patch_embed/kernel"][-2:])
    if not isinstance(size, tuple) or not isinstance(patch, tuple):
        return
    patches = (size[0] // patch[0]) * (size[1] // patch[1])
    tables = {table: arrays[table][-2] for table in TABLES if table in arrays}
    rows = min(tables.values(), default=MOST_PATCHES)
    if not 0 < patches <= rows:
        table = next((names[table] for table in tables if tables[table] == rows), "")
        found = f"{shown(table)} has {rows} rows" if table else f"at most {rows} are possible"
        raise InputError(
            f"image_size={_written(size)} is stated, which is {patches} patches of {patch[0]}x{patch[1]}, but {found}"
        )


def per_channel(given: Mapping[str, object], channels: int) -> dict[str, object]:
    """What is given, with a mean and deviation for every channel; raises InputError for another number of them."""
    values = dict(given)
    for key in ("mean", "std"):
        value = values.get(key)
        if not isinstance(value, tuple):
            continue
        if len(value) not in (1, channels):
            raise InputError(
                f"{key}={_written(value)} has {len(value)} numbers, but the images have {channels} channel(s)"
            )
        values[key] = value * channels if len(value) == 1 else value
    return values


def checked_preprocessor(preprocessor: Mapping[str, object] | None, channels: int) -> dict[str, object]:
    """A preprocessor_config.json whose means and deviations are one for every channel; raises InputError for others."""
    values = dict(preprocessor or {})
    for key, low in (("image_mean", -math.inf), ("image_std", 0.0)):
        if values.get(key) is None:
            continue
        value = values[key]
        values[key] = value = tuple(value) if isinstance(value, list) else (value,)
        kind = several(number(low, above=low == 0.0), 1, LARGEST)
        if not kind.holds(value) or len(value) not in (1, channels):
            raise InputError(
                f"{key} of preprocessor_config.json must be one number a channel ({channels}), not {_written(value)}"
            )
        values[key] = value * channels if len(value) == 1 else value
    return values


def stated_as(given: Mapping[str, object]) -> str:
    """What was stated, as the end of a sentence about what does not fit; "" for nothing."""
    return f" (stated: {', '.join(f'{key}={_written(value)}' for key, value in given.items())})" if given else ""


def _written(value: object) -> str:
    """A value as it is written behind `--set`."""
    return shown(",".join(map(str, value)) if isinstance(value, tuple) else str(value))
