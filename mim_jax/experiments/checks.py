"""From nested values to frozen settings: known keys, right types, numbers within their ranges."""

import dataclasses
import difflib
import operator
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import ml_collections

from mim_jax.errors import InputError

Group = TypeVar("Group")


def build_settings(kind: type[Group], values: object, where: str) -> Group:
    """A dataclass from a group of values; raises InputError for an unknown key or a value of the wrong type."""
    if not isinstance(values, (Mapping, ml_collections.ConfigDict)):
        raise InputError(f"{where} must be a group of keys, not {values!r}")
    assert dataclasses.is_dataclass(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    changes = {}
    for key, value in dict(values.items()).items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean '{where}.{near[0]}'?" if near else f"known are {', '.join(fields)}"
            raise InputError(f"unknown configuration key '{where}.{key}'; {hint}")
        wanted: Any = fields[key].type
        read = build_settings if dataclasses.is_dataclass(wanted) else _cast
        changes[key] = read(wanted, value, f"{where}.{key}")
    return kind(**changes)


def _cast(wanted: Any, value: object, where: str) -> Any:
    if typing.get_origin(wanted) is dict:
        if not isinstance(value, (Mapping, ml_collections.ConfigDict)):
            raise InputError(f"{where} must be a group of keys, not {value!r}")
        return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
    if typing.get_origin(wanted) is tuple:
        if not isinstance(value, (tuple, list)):
            raise InputError(f"{where} must be a tuple, not {value!r}")
        element = typing.get_args(wanted)[0]
        return tuple(_cast(element, item, f"{where}[{i}]") for i, item in enumerate(value))
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise InputError(f"{where} must be of type {wanted.__name__}, not {value!r}")
    return value


def check_encoders(encoders: Mapping[str, Any], purpose: str) -> None:
    """Raises InputError if there are no encoders to `purpose`, or one is no name and path."""
    if not encoders:
        raise InputError(f"no encoder to {purpose}; give --encoder=NAME=PATH, or set config.encoders in the file")
    for name, where in encoders.items():
        if not isinstance(where, str) or "/" in name:
            raise InputError(f"encoder '{name}' must be a name without a slash and a path, not {where!r}")


POSITIVE = (
    "optimization.batch_size", "optimization.epochs", "model.channels", "efficiency.accumulation",
    "efficiency.mesh_fsdp", "efficiency.mesh_tensor", "run.log_every",
    "evaluation.draws", "evaluation.batch_size", "run.keep_last", "method.decoder_width",
    "method.decoder_depth", "method.decoder_heads", "method.mask_patch", "optimization.reference_batch",
    "optimization.decay_epochs", "optimization.layer_decay", "method.lut.head_width",
)  # fmt: skip
NOT_NEGATIVE = (
    "optimization.seed", "optimization.warmup_epochs", "optimization.base_learning_rate",
    "optimization.final_learning_rate", "optimization.weight_decay", "optimization.clip_norm", "run.checkpoint_every",
    "run.keep_every", "run.panel_every", "run.panel_images", "run.profile_start", "run.profile_steps",
    "evaluation.knn_every", "evaluation.statistics_every", "evaluation.train_images", "evaluation.attention_images",
    "model.width", "model.depth",
    "model.num_heads",
    "data.train_examples", "data.crop_fraction", "efficiency.loader_threads", "data.rand_augment", "model.window",
    "method.target_window", "optimization.warmup_learning_rate", "method.supervised.num_classes",
    "method.supervised.mixup", "method.supervised.cutmix", "method.lut.reconstruction_weight",
    "method.lut.contextualization_weight", "method.lut.projector_depth", "method.lut.predictor_depth",
)  # fmt: skip
BELOW_ONE = (
    "method.mask_ratio", "optimization.ema_decay", "optimization.beta1", "optimization.beta2", "method.lut.momentum",
    "method.supervised.label_smoothing", "method.supervised.erasing",
)  # fmt: skip
CHOICES = {
    "method.name": ("mae", "simmim", "lut", "supervised"),
    "method.masking": ("uniform", "coarse", "blockwise", "grid"),
    "method.lut.head_norm": ("batch", "layer", "none"),
    "method.lut.head_activation": ("relu", "gelu"),
    "optimization.learning_rate_rule": ("linear", "square_root"),
    "optimization.schedule": ("half_cosine", "cosine", "multistep", "step", "linear"),
    "data.interpolation": ("bicubic", "bilinear"),
    "efficiency.dtype": ("float32", "bfloat16"),
    "efficiency.remat": ("none", "full", "dots", "dots_no_batch"),
    "data.on_corrupt": ("skip", "stop"),
}


def check_settings(settings: Any) -> None:
    """Raises InputError for a number out of its range or a name that is none."""

    def value(key: str) -> Any:
        return operator.attrgetter(key)(settings)

    def refuse(key: str, rule: str) -> None:
        raise InputError(f"config.{key} is {value(key)!r}; it must be {rule}")

    for key in POSITIVE:
        if not value(key) > 0:
            refuse(key, "greater than 0")
    for key in NOT_NEGATIVE:
        if not value(key) >= 0:
            refuse(key, "at least 0")
    for key in BELOW_ONE:
        if not 0 <= value(key) < 1:
            refuse(key, "at least 0 and less than 1")
    for key, choices in CHOICES.items():
        if value(key) not in choices:
            refuse(key, f"one of {', '.join(choices)}")
    if len(settings.model.image_size) != 2:
        refuse("model.image_size", "two numbers, height and width")
    if len(settings.model.patch_size) not in (0, 2):
        refuse("model.patch_size", "two numbers, height and width, or () for the preset's")
    for key in ("data.mean", "data.std"):
        if len(value(key)) != settings.model.channels:
            refuse(key, f"one number for each of the {settings.model.channels} channels (config.model.channels)")
