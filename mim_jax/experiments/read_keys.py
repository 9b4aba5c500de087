"""When a key is read: one that is set and would be ignored is a mistake.

A row says by which other key a key is read, and for which of its values; no values mean that it only has to be set.
Keys that change how something is learned are refused where they are not read. Sizes of a part that is not made at all
(the decoder of another method, a protocol that is left out) are told and no more: a configuration may keep them while
one tries another method.
"""

import dataclasses
import operator
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mim_jax.errors import InputError
from mim_jax.experiments.building import leaf_keys
from mim_jax.experiments.shared_settings import TRANSFORM_OPTIONS
from mim_jax.models.swin_presets import SWIN_ENCODERS

VIT, SWIN = "a Vision Transformer", "a Swin Transformer"
MASKED = ("mae", "simmim", "lut")


class Read(NamedTuple):
    """A key is read where `choice` has one of `values`, or, if none are given, where it is set."""

    choice: str
    values: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a command reads: rows of keys that are refused, and of sizes that are told, where they are not read.

    A row of a group stands for all its keys that have no row of their own.
    """

    refused: Mapping[str, Read]
    told: Mapping[str, Read]


def _by_transform(choice: str) -> dict[str, Read]:
    """Options of training transforms: each is read by the transforms that have it."""
    keys = {key for options in TRANSFORM_OPTIONS.values() for key in options.values()}
    return {
        f"data.{key}": Read(choice, tuple(name for name, own in TRANSFORM_OPTIONS.items() if key in own.values()))
        for key in sorted(keys)
    }


CROPPED = {"data.crop_fraction": Read("data.evaluation_transform", ("evaluation",))}

PRETRAINING = Reading(
    refused={
        "method.mask_ratio": Read("method.name", MASKED),
        "method.masking": Read("method.name", MASKED),
        "method.mask_patch": Read("method.name", ("simmim",)),
        "method.target_window": Read("method.name", ("simmim",)),
        "method.norm_pix_loss": Read("method.name", ("mae", "lut")),
        "method.lut": Read("method.name", ("lut",)),
        "method.supervised": Read("method.name", ("supervised",)),
        "model.depth": Read("encoder", (VIT,)),
        "model.num_heads": Read("encoder", (VIT,)),
        "model.depths": Read("encoder", (SWIN,)),
        "model.stage_heads": Read("encoder", (SWIN,)),
        "model.window": Read("encoder", (SWIN,)),
        "optimization.reference_batch": Read("optimization.learning_rate_rule", ("linear",)),
        "optimization.warmup_learning_rate": Read(
            "optimization.schedule", ("cosine", "multistep", "step", "linear")
        ),
        "optimization.final_learning_rate": Read("optimization.schedule", ("half_cosine", "cosine")),
        "optimization.milestones": Read("optimization.schedule", ("multistep",)),
        "optimization.decay_epochs": Read("optimization.schedule", ("step",)),
        "optimization.decay_factor": Read("optimization.schedule", ("multistep", "step")),
        **_by_transform("data.transform"),
        **CROPPED,
    },
    told={
        "method.decoder_width": Read("method.name", ("mae", "lut")),
        "method.decoder_depth": Read("method.name", ("mae", "lut")),
        "method.decoder_heads": Read("method.name", ("mae", "lut")),
        "method.lut.head_width": Read("method.name", ("lut",)),
        "method.lut.projector_depth": Read("method.name", ("lut",)),
        "method.lut.predictor_depth": Read("method.name", ("lut",)),
        "method.supervised.num_classes": Read("method.name", ("supervised",)),
    },
)  # fmt: skip

PROBING = Reading(
    refused={
        "readings.oracle": Read("readings.poolings", ("oracle",)),
        "trained.compat_batch_norm_groups": Read("trained.batch_norm", (True,)),
        **_by_transform("data.transform"),
        **CROPPED,
    },
    told={
        "trained": Read("protocols", ("trained",)),
        "trained.seed": Read("protocols"),
        "frozen": Read("protocols", ("k-NN", "logistic")),
        "frozen.neighbours": Read("protocols", ("k-NN",)),
        "frozen.temperature": Read("protocols", ("k-NN",)),
    },
)

ANALYSIS = Reading(
    refused={
        **dict.fromkeys(
            [f"data.{key}" for key in ("transform", "crop_scale", "interpolation", "rand_augment", "flip_probability")],
            Read("representations.lidar_images"),
        ),
        **CROPPED,
    },
    told={},
)


def check_read(settings: object, reading: Reading) -> None:
    """Raises InputError for a key that is set to something and would be ignored; says by what it would be read."""
    for key, rule in _ignored(settings, reading.refused, reading.told):
        where = f"is {' or '.join(map(str, rule.values))}" if rule.values else "is set"
        raise InputError(
            f"config.{key} is {_value(settings, key)!r}, but it is read only where {_name(settings, rule.choice)} "
            f"{where}; leave it at {_value(type(settings)(), key)!r}"
        )


def unread_sizes(settings: object, reading: Reading) -> str:
    """A line about keys that are set and concern nothing in this run; "" if there are none."""
    keys = [f"config.{key}" for key, _ in _ignored(settings, reading.told, reading.refused)]
    return f"not read in this run: {', '.join(keys)}" if keys else ""


def encoder_family(name: str) -> str:
    """What a named encoder is."""
    return SWIN if name in SWIN_ENCODERS else VIT


def _ignored(settings: object, table: Mapping[str, Read], other: Mapping[str, Read]) -> Iterator[tuple[str, Read]]:
    """Keys of a table that are not at their defaults and not read."""
    defaults = type(settings)()
    for key in (name.partition(".")[2] for name in leaf_keys(type(settings), "")):
        own = max((row for row in (*table, *other) if f"{key}.".startswith(f"{row}.")), key=len, default="")
        if own in table and _value(settings, key) != _value(defaults, key) and not _is_read(settings, table[own]):
            yield key, table[own]


def _is_read(settings: object, rule: Read) -> bool:
    value = _value(settings, rule.choice)
    if not rule.values:
        return bool(value)
    values = value if isinstance(value, tuple) else (value,)
    return any((one.partition("(")[0] if isinstance(one, str) else one) in rule.values for one in values)


def _value(settings: object, key: str) -> Any:
    if key == "encoder":
        return encoder_family(_value(settings, "model.name"))
    return operator.attrgetter(key)(settings)


def _name(settings: object, choice: str) -> str:
    return f"the encoder ('{_value(settings, 'model.name')}')" if choice == "encoder" else f"config.{choice}"
