"""Objectives as plain values in `model.json`, and back."""

import dataclasses
from typing import Any

from mim_jax.errors import InputError
from mim_jax.models.build import AnyEncoderConfig
from mim_jax.pretraining.heads import HeadConfig
from mim_jax.pretraining.lut import Lut
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.pretraining.objective import Objective
from mim_jax.pretraining.simmim import SimMIM
from mim_jax.pretraining.supervised import Supervised

METHODS: dict[str, type] = {"mae": MaskedAutoencoder, "simmim": SimMIM, "lut": Lut, "supervised": Supervised}
"""Method name to its objective."""

NESTED = {"decoder_config": DecoderConfig, "projector": HeadConfig, "predictor": HeadConfig}

ELSEWHERE = ("encoder_config", "computation")
"""Fields that are no part of the method: they are told apart, or do not change what is computed."""


def describe_method(objective: Objective | None) -> dict[str, Any] | None:
    """Name and fields of an objective; None for an encoder alone."""
    if objective is None:
        return None
    return {"name": next(name for name, kind in METHODS.items() if type(objective) is kind), **_plain(objective)}


def _plain(objective: Objective) -> dict[str, Any]:
    values = {field.name: getattr(objective, field.name) for field in dataclasses.fields(objective)}
    values = {name: value for name, value in values.items() if name not in ELSEWHERE}
    if "mae" in values:
        values["mae"] = _plain(values["mae"])
    return {name: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for name, v in values.items()}


def make_objective(description: dict[str, Any] | None, encoder: AnyEncoderConfig) -> Objective | None:
    """Inverse of `describe_method`; raises InputError for a method that is not known."""
    if description is None:
        return None
    fields = dict(description)
    name = fields.pop("name", "")
    if name not in METHODS:
        raise InputError(f"unknown method '{name}'; known are {', '.join(METHODS)}")
    if name == "lut":
        return Lut(MaskedAutoencoder(encoder, **_nested(fields.pop("mae"))), **_nested(fields))
    return METHODS[name](encoder_config=encoder, **_nested(fields))


def _nested(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: NESTED[name](**value) if name in NESTED else value for name, value in fields.items()}
