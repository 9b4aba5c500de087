"""What is measured of one batch of images, inside the program that encodes them."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Array, Bool, Float

from mim_jax.analysis.block_measures import AnyMesh, Selection, Tree, observer, token_measures
from mim_jax.errors import InputError
from mim_jax.models.applying import encode
from mim_jax.models.build import Parameters
from mim_jax.models.encoder import EncoderConfig


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
    mesh: AnyMesh | None = None

    def __post_init__(self) -> None:
        known = [name for name, first in (("class", 1), ("registers", 2)) if self.config.prefix >= first]
        for query in self.selection.queries:
            if query not in (*known, "patches"):
                raise InputError(
                    f"this encoder has no {query} token to take statistics of; it has {', '.join([*known, 'patches'])}"
                )

    def __call__(self, parameters: Parameters, images: Float[Array, "b h w c"]) -> Stages:
        """What every stage yields: nothing of a block but that outlives it."""
        config = self.config
        observe = observer(config.grid, config.prefix, config.patch_size, self.selection, self.mesh)
        out = encode(self.encoder, parameters, images, observer=observe, taps=(0,))
        blocks = out.observations if isinstance(out.observations, tuple) else (out.observations,)
        embedded = jax.tree.map(lambda leaf: leaf[None], token_measures(out.taps[0], self.selection))
        return tuple(map(_stage, (embedded | {"heads": {}}, *blocks)))


def _stage(seen: Tree) -> Stage:
    return Stage(Statistics(seen["heads"], seen["layers"], seen["arrays"]), seen["features"], seen["finite"])
