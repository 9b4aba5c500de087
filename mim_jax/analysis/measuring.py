"""What is measured of one batch of images, inside the program that encodes them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mim_jax.analysis.block_measures import Selection, Tree, joined, mlp_updates, observer, token_measures
from mim_jax.errors import InputError
from mim_jax.models.encoder import EncoderConfig, Tokens


class Statistics(NamedTuple):
    """Statistics of consecutive blocks of one shape, per image (or, of many images, their means).

    Attributes:
        heads: by query group and statistic, `[l, b, k]`.
        layers: by query group ("" for none) and statistic, `[l, b]`.
        arrays: by name, `[l, b, ...]`.
    """

    heads: dict[str, Tree]
    layers: dict[str, Tree]
    arrays: Tree


class Stage(NamedTuple):
    """What consecutive blocks of one shape yield.

    Attributes:
        statistics: per image.
        features: what stands for an image behind a block, by kind of sample ("class", "pooled"), `[l, b, d]`.
        finite: whether all outputs of a block are finite, `[l, b]`.
    """

    statistics: Statistics
    features: Tree
    finite: Bool[Array, "l b"]


Stages = tuple[Stage, ...]
"""The embedded patches (as layer 0, alone), then the stages of the encoder: one, or as many as a Swin has."""


@dataclasses.dataclass(frozen=True)
class Measure:
    """Parameters and normalised images to what is measured.

    Attributes:
        encoder: the encoder's module.
        config: its configuration.
        selection: what is measured.
        mesh: the devices that share a batch, or None.
    """

    encoder: nn.Module
    config: EncoderConfig
    selection: Selection = Selection()
    mesh: Any = None

    def __post_init__(self) -> None:
        known = [name for name, first in (("class", 1), ("registers", 2)) if self.config.prefix >= first]
        for query in self.selection.queries:
            if query not in (*known, "patches"):
                raise InputError(
                    f"this encoder has no {query} token to take statistics of; it has {', '.join([*known, 'patches'])}"
                )

    def __call__(self, parameters: Any, images: Float[Array, "b h w c"]) -> Stages:
        """What every stage yields."""
        config, depth = self.config, sum(self.config.depths)
        observe = observer(config.grid, config.prefix, config.patch_size, self.selection, self.mesh)
        out = self.encoder.apply({"params": parameters}, images, observer=observe, taps=tuple(range(depth + 1)))
        seen = out.observations if isinstance(out.observations, tuple) else (out.observations,)
        stages, first = [self._stage({}, out.taps[:1])], 1
        for number, observed in zip(config.depths, seen, strict=True):
            stages.append(self._stage(observed, out.taps[first : first + number]))
            first += number
        return tuple(stages)

    def _stage(self, observed: Tree, taps: Sequence[Tokens]) -> Stage:
        """One stage, from what the observer saw in its blocks and the tokens behind them."""
        selection = self.selection
        tokens = [token_measures(own, selection.spectra) for own in taps]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tokens)
        heads, layers, arrays = {}, stacked["layers"], stacked["arrays"]
        if observed:
            heads = selection.of(observed["heads"])
            means = {query: {name: x.mean(axis=-1) for name, x in own.items()} for query, own in heads.items()}
            layers = joined(means, layers, observed["layers"], mlp_updates(observed, taps))
            arrays = arrays | observed["arrays"]
        arrays = arrays if selection.arrays else {}
        statistics = Statistics(heads, selection.of(layers), arrays)
        return Stage(statistics, stacked["features"], stacked["finite"])
