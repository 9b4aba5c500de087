"""Attention statistics of an encoder over a data set, as a tidy table."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.stats
from jaxtyping import Array, Bool, Float

from mim_jax.errors import InputError
from mim_jax.ops.attention import Observation, Observer
from mim_jax.ops.attention_statistics import AttentionStatistics, attention_statistics

Pair = tuple[int, int]

COLUMNS = (
    *("encoder", "layer", "head", "statistic"),
    *("value", "standard_error", "ci95_low", "ci95_high", "n", "unit", "definition"),
)


@dataclasses.dataclass(frozen=True)
class Statistic:
    """Unit and definition of a statistic, as the table and the report state them."""

    unit: str
    definition: str


ATTENTION_STATISTICS = {
    "attention_distance": Statistic(
        "px",
        "Euclidean distance between the centres of query and key patch, weighted by attention renormalised over "
        "patches (prefix tokens dropped, the patch itself included); mean over query patches, then over images",
    ),
    "attention_entropy": Statistic(
        "nats",
        "entropy of attention renormalised over patches (prefix tokens dropped); mean over query patches, then images",
    ),
    "attention_entropy_with_prefix": Statistic(
        "nats", "entropy of attention over all tokens; mean over all query tokens, then images"
    ),
}
"""The fields of `AttentionStatistics`, in words."""


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations over images.

    `mean` and `squares` hold `AttentionStatistics` of `[l k]` for every stage.
    """

    count: Float[Array, ""]
    mean: Any
    squares: Any


def attention_observer(*, grid: Pair, prefix: int, patch_size: int | Pair) -> Observer:
    """An observer that returns the block's `AttentionStatistics`, `[b k]` each.

    Within windows the distance is that of tokens of one window, in pixels of the image; every window counts alike.
    """

    def observe(observation: Observation) -> AttentionStatistics:
        if observation.windows is not None:
            return _windowed_statistics(observation)
        return attention_statistics(
            observation.query,
            observation.key,
            grid=grid,
            prefix=prefix,
            patch_size=patch_size,
            scale=observation.scale,
            bias=observation.bias,
        )

    return observe


def _windowed_statistics(observation: Observation) -> AttentionStatistics:
    windows, bias = observation.windows, observation.bias

    def of_window(query: Any, key: Any, bias: Any) -> AttentionStatistics:
        return attention_statistics(
            query, key, grid=windows.size, prefix=0, patch_size=windows.stride, scale=observation.scale, bias=bias
        )

    one_for_each = bias is not None and bias.ndim == 4 and bias.shape[0] > 1
    shared = bias if bias is None or bias.ndim == 3 else bias[0]
    over_windows = jax.vmap(of_window, in_axes=(1, 1, 0 if one_for_each else None))
    statistics = over_windows(observation.query, observation.key, bias if one_for_each else shared)
    return jax.tree.map(lambda values: values.mean(axis=0), statistics)


def collect_attention_statistics(
    apply_fn: Callable[..., Any],
    batches: Iterable[tuple[Any, Any]],
    *,
    encoder: str,
    grid: Pair,
    prefix: int,
    patch_size: int | Pair,
) -> pd.DataFrame:
    """Mean of every attention statistic by layer and head, with its standard error and 95 % interval over images.

    Args:
        apply_fn: `apply_fn(images, observer)` runs the encoder and returns what the observer returned, stacked over
            layers: `AttentionStatistics` of `[l b k]`. As `jax.tree_util.Partial(function, parameters)` it hands the
            parameters to the compiler as arguments; those of any other function are compiled in as constants.
        batches: pairs of images `[b h w c]` and `valid` `[b]`, which is False for images that only fill a batch.
            All batches of one size mean one compilation.
        encoder: name in the table.
        grid: rows and columns of patches.
        prefix: number of prefix tokens.
        patch_size: of the input image, in pixels.

    An encoder with stages returns a tuple of them, one a stage; its layers are counted through all stages.

    Returns:
        One row for every layer and head (both from 1) and statistic, with the columns `COLUMNS`; `n` is the number
        of images. The standard error of a single image is NaN.

    Raises:
        InputError: if there is no valid image.
    """
    function = apply_fn if isinstance(apply_fn, jax.tree_util.Partial) else jax.tree_util.Partial(apply_fn)
    layout = {"grid": grid, "prefix": prefix, "patch_size": patch_size}
    parts = (_batch_moments(function, images, valid, **layout) for images, valid in batches)
    total = functools.reduce(_merge, parts, None)
    if total is None or not total.count:
        raise InputError(f"no images to collect attention statistics of '{encoder}' from; give at least one")
    return pd.DataFrame(_rows(encoder, jax.device_get(total)), columns=COLUMNS)


@functools.partial(jax.jit, static_argnames=("grid", "prefix", "patch_size"))
def _batch_moments(
    function: Any, images: Float[Array, "b h w c"], valid: Bool[Array, "b"], *, grid: Pair, prefix: int, patch_size: Any
) -> Moments:
    """Runs the encoder on a batch; only the moments leave the device."""
    statistics = function(images, attention_observer(grid=grid, prefix=prefix, patch_size=patch_size))
    if isinstance(statistics, AttentionStatistics):
        statistics = (statistics,)
    weight = valid.astype(jnp.float32)[:, None]
    count = weight.sum()

    def total(values: Float[Array, "l b k"]) -> Float[Array, "l k"]:
        # Selects rather than multiplies: what fills a batch may be anything, NaN included.
        return jnp.where(weight > 0, values, 0).sum(axis=1)

    mean = jax.tree.map(lambda values: total(values) / jnp.maximum(count, 1), statistics)
    squares = jax.tree.map(lambda values, mean: total((values - mean[:, None]) ** 2), statistics, mean)
    return Moments(count, mean, squares)


def _merge(one: Moments | None, other: Moments) -> Moments:
    """Moments of both together (Chan et al. 1983): unlike plain sums of squares, exact in float32 for small spreads."""
    if one is None:
        return other
    # By now the next batch is under way; waiting here keeps more of them from piling up on the device.
    return _merge_moments(jax.block_until_ready(one), other)


@jax.jit
def _merge_moments(one: Moments, other: Moments) -> Moments:
    count = one.count + other.count
    share = other.count / jnp.maximum(count, 1)
    mean = jax.tree.map(lambda a, b: a + (b - a) * share, one.mean, other.mean)
    squares = jax.tree.map(
        lambda a, b, s, t: s + t + (b - a) ** 2 * one.count * share, one.mean, other.mean, one.squares, other.squares
    )
    return Moments(count, mean, squares)


def _rows(encoder: str, moments: Moments) -> Iterator[tuple[Any, ...]]:
    first = 1
    for means, squares in zip(moments.mean, moments.squares, strict=True):
        yield from _rows_of_stage(encoder, first, means, squares, int(moments.count))
        first += means[0].shape[0]


def _rows_of_stage(
    encoder: str, first: int, means: AttentionStatistics, squares: AttentionStatistics, count: int
) -> Iterator[tuple[Any, ...]]:
    for name, mean, square in zip(means._fields, means, squares, strict=True):
        statistic = ATTENTION_STATISTICS[name]
        error, margin = _uncertainty(np.asarray(square, np.float64), count)
        for (layer, head), value in np.ndenumerate(np.asarray(mean, np.float64)):
            interval = value - margin[layer, head], value + margin[layer, head]
            place = encoder, first + layer, head + 1, name
            yield *place, value, error[layer, head], *interval, count, statistic.unit, statistic.definition


def _uncertainty(
    squares: Float[np.ndarray, "l k"], count: int
) -> tuple[Float[np.ndarray, "l k"], Float[np.ndarray, "l k"]]:
    """Standard error of the mean over images, and half its 95 % interval (Student's t)."""
    if count < 2:
        unknown = np.full(squares.shape, np.nan)
        return unknown, unknown
    error = np.sqrt(squares / (count - 1) / count)
    return error, error * scipy.stats.t.ppf(0.975, count - 1)
