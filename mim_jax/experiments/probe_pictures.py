"""Where poolings look: the weights that they give to the patches of a few test images."""

import functools
from typing import Any

import jax
import numpy as np

from mim_jax.analysis.probe_figures import PoolingPictures
from mim_jax.data.reading import Reader
from mim_jax.data.sources import Source
from mim_jax.experiments.plan import evaluation_transform
from mim_jax.experiments.probed_encoder import ProbedEncoder
from mim_jax.pretraining.heads import STATISTICS
from mim_jax.probing.pooling import FrozenTokens
from mim_jax.probing.reading import Reading
from mim_jax.training.state import TrainState


def pooling_pictures(
    probed: ProbedEncoder, source: Source, state: TrainState | None, chosen: dict[str, int]
) -> PoolingPictures | None:
    """Maps of every pooling of the last layer that has weights; None if there is none, or no picture is asked for.

    `state` holds the trained heads, of which `chosen` names one a reading.
    """
    pixels = _pixels(probed, source)
    readings = [reading for reading in _last(probed.readings) if hasattr(reading.module, "weights")]
    if state is None:
        readings = [reading for reading in readings if reading in probed.fixed]
    if pixels is None or not readings:
        return None
    tokens = _tokens(probed, pixels)
    maps = {}
    for reading in readings:
        weights = _weights(probed, reading, tokens[reading.source], state, chosen.get(str(reading), 0))
        grid = tokens[reading.source].grid
        maps[reading.pooling] = np.asarray(weights, np.float32).mean(axis=1).reshape(-1, *grid)
    return PoolingPictures(pixels.astype(np.float32) / 255, maps)


def _last(readings: tuple[Reading, ...]) -> list[Reading]:
    last = max(reading.layer for reading in readings)
    return [reading for reading in readings if reading.layer == last and not reading.final_norm]


def _pixels(probed: ProbedEncoder, source: Source) -> np.ndarray | None:
    """The first test images that can be read, in their evaluation crop."""
    settings = probed.settings
    count = min(settings.run.pictures, len(source))
    if count < 1:
        return None
    transform = evaluation_transform(settings.data, probed.model.preprocessing.image_size)
    reader = Reader(source, settings.data.on_corrupt)
    return np.stack([transform(reader.read(index)[1]["image"], None) for index in range(count)])


def _tokens(probed: ProbedEncoder, pixels: np.ndarray) -> Any:
    return jax.jit(probed.read)(probed.all_parameters, jax.numpy.asarray(pixels))


def _weights(
    probed: ProbedEncoder, reading: Reading, tokens: FrozenTokens, state: TrainState | None, chosen: int
) -> Any:
    """Weights `[n, heads, patches]` of a pooling, with the parameters of the chosen head."""
    module, variables = reading.module, {}
    if reading not in probed.fixed and state is not None:
        pick = functools.partial(jax.tree.map, lambda leaf: leaf[chosen])
        name = str(reading)
        variables = {"params": pick(state.parameters[name]["pooling"])}
        variables[STATISTICS] = pick(state.memory[name].get("pooling", {}))
    return module.apply(variables, tokens, method="weights")
