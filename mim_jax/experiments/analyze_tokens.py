"""Comparisons that need all tokens of an image, which are too many to keep; and LiDAR, which needs augmented views."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Array, Bool, Float, UInt8

from mim_jax.analysis.representations import pairs_of
from mim_jax.analysis.result import Matrices
from mim_jax.analysis.tables import summary_row
from mim_jax.data.reading import Reader
from mim_jax.data.sources import Source
from mim_jax.data.subset import Subset
from mim_jax.errors import InputError
from mim_jax.experiments.analyze_settings import AnalyzeSettings
from mim_jax.experiments.placed_encoder import PlacedEncoder
from mim_jax.experiments.plan import training_transform
from mim_jax.models.applying import encode
from mim_jax.models.blocks import Computation
from mim_jax.models.build import AnyEncoderConfig, Parameters, make_encoder
from mim_jax.ops.similarity import (
    CkaSums,
    MinibatchSums,
    cka_of_sums,
    cka_sums,
    merge_cka_sums,
    minibatch_cka,
    minibatch_sums,
)
from mim_jax.ops.spectra import lidar
from mim_jax.training.sharding import replicated

TOKEN_SAMPLES = ("flattened", "tokens")

Layers = list[Float[Array, "b _ _"]]
"""Patch tokens by layer."""
Offsets = tuple[list[Float[Array, "_"]], list[Float[Array, "_"]]]


def token_similarity(
    placed: Mapping[str, PlacedEncoder], settings: AnalyzeSettings, source: Source
) -> dict[str, Matrices]:
    """CKA of all layers of all pairs of encoders, by kind of sample; nothing where no such kind is asked for.

    "flattened" is minibatch CKA over batches of the run, "tokens" is over all tokens at once, as the settings say.
    """
    wanted = settings.representations
    count = min(wanted.token_images or len(source), len(source))
    images = Subset(source, np.arange(count))
    return {
        kind: {
            (a, b): _of_pair(kind, placed[a], placed[b], settings, images)
            for a, b in pairs_of(list(placed), wanted.across)
        }
        for kind in wanted.samples
        if kind in TOKEN_SAMPLES
    }


def _of_pair(
    kind: str, one: PlacedEncoder, other: PlacedEncoder, settings: AnalyzeSettings, source: Source
) -> Float[np.ndarray, "l m"]:
    estimator = settings.representations.cka
    if kind == "tokens" and max(len(placed.model.encoder_config.depths) for placed in (one, other)) > 1:
        raise InputError(
            f"'tokens' compares patch by patch, but the stages of '{one.name}' or '{other.name}' have different grids; "
            "take another of config.representations.samples"
        )
    if kind == "tokens" and one.model.encoder_config.grid != other.model.encoder_config.grid:
        raise InputError(
            f"'tokens' compares patch by patch, but '{one.name}' and '{other.name}' have different grids; take another "
            "of config.representations.samples, or set config.representations.across=False"
        )
    batches, sharding = _token_batches(one, other, source), replicated(one.mesh)
    if kind == "flattened":
        parts = (_flattened_sums(x, y, valid, sharding) for (x, y), valid in batches)
        return np.asarray(minibatch_cka(functools.reduce(functools.partial(jax.tree.map, jnp.add), parts)))
    offsets, sums = None, None
    for (x, y), valid in batches:
        offsets = offsets or _offsets((x, y), valid, sharding)
        part = _token_sums(x, y, offsets, valid, sharding)
        sums = part if sums is None else merge_cka_sums(sums, part)
    assert sums is not None  # there is an image at least
    return cka_of_sums(sums, "biased" if estimator == "biased" else "unbiased")


def _token_batches(one: PlacedEncoder, other: PlacedEncoder, source: Source) -> Iterator[tuple[Any, Any]]:
    """Patch tokens by layer of both encoders, of the same images."""
    for batch, second in zip(one.batches(source), other.batches(source), strict=True):
        x = _tokens_of(one, batch["image"])
        y = x if one is other else _tokens_of(other, second["image"])
        yield (x, y), batch["valid"]


def _tokens_of(placed: PlacedEncoder, images: UInt8[Array, "b h w c"]) -> Layers:
    """Patch tokens by layer."""
    return _tokens(placed.parameters, placed.normalise(images), placed.model.encoder_config, placed.computation)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _tokens(
    parameters: Parameters, images: Float[Array, "b h w c"], config: AnyEncoderConfig, computation: Computation
) -> Layers:
    taps = tuple(range(sum(config.depths) + 1))
    out = encode(make_encoder(config, computation), parameters, images, taps=taps)
    return [tap.patches.astype(jnp.float32) for tap in out.taps]


@functools.partial(jax.jit, static_argnums=3)
def _flattened_sums(x: Layers, y: Layers, valid: Bool[Array, "b"], sharding: Sharding) -> MinibatchSums:
    flat = [[tokens.reshape(tokens.shape[0], -1) for tokens in layers] for layers in (x, y)]
    return jax.lax.with_sharding_constraint(minibatch_sums(*flat, valid), sharding)


@functools.partial(jax.jit, static_argnums=2)
def _offsets(layers: tuple[Layers, Layers], valid: Bool[Array, "b"], sharding: Sharding) -> Offsets:
    """Mean token of every layer over a batch."""
    share = valid / jnp.maximum(valid.sum(), 1)
    means = jax.tree.map(lambda tokens: jnp.einsum("b,bmd->d", share, tokens) / tokens.shape[1], layers)
    return jax.lax.with_sharding_constraint(means, sharding)


@functools.partial(jax.jit, static_argnums=4)
def _token_sums(x: Layers, y: Layers, offsets: Offsets, valid: Bool[Array, "b"], sharding: Sharding) -> CkaSums:
    rows = [[tokens.reshape(-1, tokens.shape[-1]) for tokens in layers] for layers in (x, y)]
    each = jnp.repeat(valid, x[0].shape[1])
    return jax.lax.with_sharding_constraint(cka_sums(*rows, *offsets, each), sharding)


def lidar_rows(placed: PlacedEncoder, settings: AnalyzeSettings, source: Source) -> list[tuple[Any, ...]]:
    """LiDAR of the mean patch token of every layer, from augmented views of some images; no rows if not asked for."""
    wanted = settings.representations
    count = min(wanted.lidar_images, len(source))
    if not count:
        return []
    transform = training_transform(settings.data, placed.model.preprocessing.image_size)
    reader, features = Reader(source, settings.data.on_corrupt), []
    for index in range(count):
        image = reader.read(index)[1]["image"]
        views = [
            transform(image, np.random.default_rng((settings.run.seed, index, view)))
            for view in range(wanted.lidar_views)
        ]
        tokens = _tokens_of(placed, jnp.asarray(np.stack(views)))
        features.append([np.asarray(own.mean(axis=1)) for own in tokens])
    return [
        summary_row(placed.name, layer, "pooled", "lidar", float(lidar(jnp.asarray(np.stack(views)))), count)
        for layer, views in enumerate(zip(*features))
    ]
