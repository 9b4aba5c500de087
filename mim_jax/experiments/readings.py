"""What is read of an encoder: all that was asked for, or all of it that this encoder has."""

import dataclasses
from collections.abc import Collection

import jax
import numpy as np

from mim_jax.errors import InputError
from mim_jax.experiments.probe_settings import Readings
from mim_jax.models.build import AnyEncoderConfig, make_encoder
from mim_jax.probing.pooling.fitting import fitted
from mim_jax.probing.pooling.frozen import FrozenTokens
from mim_jax.probing.pooling.observing import make_observer
from mim_jax.probing.reading import FrozenEncoder, Reading, check_readings
from mim_jax.weights.model import Model

LAST_RESORT = "mean"
"""The pooling that is read where an encoder has none of those that were wished for; every encoder has it."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What is read of an encoder, and lines about what is not, or otherwise."""

    readings: tuple[Reading, ...]
    notes: tuple[str, ...]


def choose_readings(model: Model, wanted: Readings, wishes: Collection[str] = ()) -> Chosen:
    """All combinations of layer, pooling and final norm that an encoder has.

    Of the keys in `wishes` ("readings.layers", ...) what it does not have is left out with a note; where nothing
    remains, the mean of the last block is read.

    Raises InputError for what it does not have of the other keys, and for a pooling that there is not. A final norm
    that does not fit an earlier stage of a Swin is left out in any case.
    """
    config, notes = model.encoder_config, []
    layers = _layers(config, wanted.layers, "readings.layers" in wishes, notes)
    places = _places(config, layers, wanted.final_norm, "readings.final_norm" in wishes, notes)
    lenient, left_out = "readings.poolings" in wishes, {}
    found, shapes = [], _shapes(model, places)
    for layer, final_norm in places:
        for pooling in wanted.poolings:
            reading, reason = _fit(config, Reading(layer, pooling, final_norm), shapes)
            if not reason:
                found.append(reading)
                if reading.pooling != pooling:
                    notes.append(f"'{pooling}' is '{reading.pooling}' here, which divides the width of block {layer}")
            elif not lenient:
                raise InputError(reason)
            else:
                left_out.setdefault(reason, {})[pooling] = None
    notes += [f"left out: {', '.join(names)} ({reason})" for reason, names in left_out.items()]
    if not found:
        found = [Reading(layer, LAST_RESORT, final_norm) for layer, final_norm in places]
        notes.append(f"'{LAST_RESORT}' is read instead")
    return Chosen(tuple(dict.fromkeys(found)), tuple(notes))


def _layers(config: AnyEncoderConfig, wanted: tuple[int, ...], lenient: bool, notes: list[str]) -> list[int]:
    """Numbers of blocks from 1."""
    depth, found = sum(config.depths), []
    for given in wanted or range(1, depth + 1):
        layer = depth + 1 + given if given < 0 else given
        if 1 <= layer <= depth:
            found.append(layer)
        elif lenient:
            notes.append(f"left out: block {given} (this encoder has {depth})")
        else:
            raise InputError(
                f"there is no block {given}; this encoder has {depth}, give 1 to {depth} or -{depth} to -1"
            )
    if not found:
        notes.append(f"the last block, {depth}, is read instead")
    return found or [depth]


def _places(
    config: AnyEncoderConfig, layers: list[int], norms: tuple[bool, ...], lenient: bool, notes: list[str]
) -> list[tuple[int, bool]]:
    """Layers with and without the final norm, as far as it fits."""
    last_stage = sum(config.depths) - config.depths[-1]
    fits = lambda layer: config.final_norm and layer > last_stage
    found = [(layer, norm) for layer in layers for norm in norms if not norm or fits(layer)]
    if any(norms) and not any(norm for _, norm in found):
        notes.append("left out: the final norm (this encoder has none that could be applied)")
    if not found and not lenient:
        raise InputError(
            "this encoder has no final norm that could be applied; set config.readings.final_norm=(False,)"
        )
    return found or [(layer, False) for layer in layers]


def _shapes(model: Model, places: list[tuple[int, bool]]) -> dict[str, FrozenTokens]:
    """Shapes of the tokens of one image at every place."""
    config = model.encoder_config
    readings = tuple(Reading(layer, LAST_RESORT, norm) for layer, norm in places)
    return FrozenEncoder(make_encoder(config), config, readings).shapes(model.parameters["encoder"])


def _fit(config: AnyEncoderConfig, reading: Reading, shapes: dict[str, FrozenTokens]) -> tuple[Reading, str]:
    """The reading with heads that fit, and why it cannot be served ("" if it can)."""
    tokens = shapes[reading.source]
    text = fitted(reading.pooling, tokens.tokens.shape[-1], _heads(config, reading.layer))
    reading = dataclasses.replace(reading, pooling=text)
    module = reading.module
    try:
        check_readings([reading], config)
        make_observer(module.needs, config.grid, config.prefix)
        if not module.needs:
            jax.eval_shape(module.init, jax.random.key(0), tokens)
    except InputError as error:
        return reading, str(error)
    return reading, ""


def _heads(config: AnyEncoderConfig, layer: int) -> int:
    """Attention heads of a block."""
    if isinstance(config.num_heads, int):
        return config.num_heads
    return next(heads for heads, last in zip(config.num_heads, np.cumsum(config.depths)) if layer <= last)
