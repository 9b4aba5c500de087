"""Where an encoder looks in a few images: attention of chosen queries, rollout, norms of tokens."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mim_jax.analysis.result import Pictures
from mim_jax.data.reading import Reader
from mim_jax.data.sources import Source
from mim_jax.experiments.analyze_settings import AnalyzeSettings
from mim_jax.experiments.placed_encoder import PlacedEncoder
from mim_jax.experiments.plan import evaluation_transform
from mim_jax.models.applying import encode
from mim_jax.models.blocks import Computation
from mim_jax.models.build import AnyEncoderConfig, Parameters, make_encoder
from mim_jax.ops.attention_maps import attention_of_queries
from mim_jax.ops.rollout import class_rollout, logit_parts
from mim_jax.ops.token_statistics import token_norms

Pair = tuple[int, int]


def query_places(grid: Pair) -> dict[str, Pair]:
    """The patches whose attention is drawn: the middle, and one towards each of two corners."""
    rows, columns = grid
    places = {
        "middle": (rows // 2, columns // 2),
        "upper left": (rows // 4, columns // 4),
        "lower right": (3 * rows // 4, 3 * columns // 4),
    }
    return {f"{name} patch": place for name, place in places.items()}


def encoder_pictures(placed: PlacedEncoder, settings: AnalyzeSettings, source: Source) -> Pictures | None:
    """Pictures of the first images; None if none are asked for. Within windows there are norms only."""
    count = min(settings.run.pictures, len(source))
    if count < 1:
        return None
    transform = evaluation_transform(settings.data, placed.model.preprocessing.image_size)
    reader = Reader(source, settings.data.on_corrupt)
    pixels = np.stack([transform(reader.read(index)[1]["image"], None) for index in range(count)])
    config = placed.model.encoder_config
    windowed = len(config.depths) > 1
    run = _norms_only if windowed else _look
    queries = {} if windowed else query_places(config.grid)
    found = run(
        placed.parameters, placed.normalise(jnp.asarray(pixels)), config, tuple(queries.values()), placed.computation
    )
    attention, rollout, norms = jax.tree.map(np.asarray, found)
    images = pixels.astype(np.float32) / 255
    names = (["class"] if config.prefix and not windowed else []) + list(queries)
    return Pictures(images, queries, dict(zip(names, attention, strict=True)), rollout, norms)


Look = tuple[list[Float[Array, "n k y x"]], Float[Array, "n y x"] | None, Float[Array, "n y x"]]
"""Attention of the queries, rollout and norms of the patches, of a few images."""


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _norms_only(
    parameters: Parameters,
    images: Float[Array, "b h w c"],
    config: AnyEncoderConfig,
    queries: tuple[Pair, ...],
    computation: Computation,
) -> Look:
    depth = sum(config.depths)
    last = encode(make_encoder(config, computation), parameters, images, taps=(depth,)).taps[0]
    return [], None, token_norms(last.patches).reshape(-1, *last.grid)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _look(
    parameters: Parameters,
    images: Float[Array, "b h w c"],
    config: AnyEncoderConfig,
    queries: tuple[Pair, ...],
    computation: Computation,
) -> Look:
    """Attention of every query in the last block, rollout from the class token, norms."""
    depth, prefix, (_, columns) = sum(config.depths), config.prefix, config.grid
    out = encode(make_encoder(config, computation), parameters, images, observer=logit_parts, taps=(depth,))
    parts = out.observations
    last = jax.tree.map(lambda leaf: leaf[-1], parts)
    rows = ([0] if prefix else []) + [prefix + row * columns + column for row, column in queries]
    attention = attention_of_queries(*last, np.asarray(rows))[..., prefix:]
    maps = [attention[:, :, i].reshape(*attention.shape[:2], *config.grid) for i in range(len(rows))]
    rollout = class_rollout(*parts)[:, 0, prefix:].reshape(-1, *config.grid) if prefix else None
    norms = token_norms(out.taps[0].patches).reshape(-1, *config.grid)
    return maps, rollout, norms
