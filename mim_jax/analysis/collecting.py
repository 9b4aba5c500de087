"""One pass over a data set: what is measured of every batch, added up on the device."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from jaxtyping import Array, Bool, Float, Int

from mim_jax.analysis.measuring import Stages
from mim_jax.analysis.moments import Moments, merge_on_device, moments_of_batch
from mim_jax.errors import InputError
from mim_jax.ops.intervals import uncertainty

Features = dict[str, list[np.ndarray]]
"""By kind of sample, one array `[n, d]` for every layer from 0."""

StageFeatures = tuple[Mapping[str, Array], ...]
"""By stage and kind of sample, `[l, b, d]`."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images on the device.

    Attributes:
        images: normalised, `[b, h, w, c]`.
        valid: False for images that only fill the batch, `[b]`.
        index: number of every image in its source, `[b]`, on the host.
    """

    images: Any
    valid: Any
    index: Int[np.ndarray, "b"]


@dataclasses.dataclass(frozen=True)
class Collected:
    """What a pass has found so far.

    Attributes:
        moments: of the `Statistics` of all stages; None before the first batch.
        batches: number of batches seen.
        enough: whether all intervals asked for are narrow enough.
    """

    moments: Moments | None = None
    batches: int = 0
    enough: bool = False


class Flaw(NamedTuple):
    """Where an output is not finite.

    Attributes:
        found: whether there is any such place.
        layer: number of the layer.
        row: place of the image in the batch.
    """

    found: Any
    layer: Any
    row: Any


@functools.partial(jax.jit, static_argnums=3)
def measured_batch(
    measure: Callable[[Array], Stages],
    images: Float[Array, "b h w c"],
    valid: Bool[Array, "b"],
    sharding: Sharding | None = None,
) -> tuple[Moments, Flaw, StageFeatures]:
    """Moments of a batch, the first place that is not finite, and features by stage.

    With a `sharding` all but the features lies on the devices as that says.
    """
    stages = measure(images)
    moments = moments_of_batch(tuple(stage.statistics for stage in stages), valid)
    bad = ~jnp.concatenate([stage.finite for stage in stages]) & valid
    layer, row = jnp.unravel_index(jnp.argmax(bad), bad.shape)
    flaw = Flaw(bad.any(), layer, row)
    if sharding is not None:
        moments, flaw = jax.lax.with_sharding_constraint((moments, flaw), sharding)
    return moments, flaw, tuple(stage.features for stage in stages)


def collect(
    measure: Callable[[Array], Stages],
    batches: Iterable[Batch],
    *,
    start: Collected = Collected(),
    until: Mapping[str, float] | None = None,
    describe: Callable[[int], str] = "image {}".format,
    sharding: Sharding | None = None,
) -> Iterator[tuple[Collected, Batch, StageFeatures]]:
    """Yields, after every batch, what has been found so far, that batch, and its features by stage, on the device.

    Args:
        measure: normalised images to `Stages`: `jax.tree_util.Partial(Measure(...), parameters)`, which hands the
            parameters to the compiler as arguments.
        batches: all of one size, which means one compilation.
        start: what earlier batches have found.
        until: half the width of the 95 % interval, by statistic, in its unit, that is narrow enough; the pass ends as
            soon as every layer and head has reached it.
        describe: number of an image to its name.
        sharding: how sums lie on the devices: replicated, where there are many processes.

    Raises:
        InputError: if a block's output is not finite; names the layer and the image.
    """
    found, sums, under_way = start, start.moments, None
    for batch in () if start.enough else batches:
        part, flaw, features = measured_batch(measure, batch.images, batch.valid, sharding)
        sums = part if sums is None else merge_on_device(sums, part)
        # Only now is the batch before waited for: the devices have this one to go on with.
        if under_way is not None:
            settled = found, *_ = _settled(found, *under_way, until, describe)
            yield settled
            if found.enough:
                return
        under_way = sums, flaw, batch, features
    if under_way is not None:
        yield _settled(found, *under_way, until, describe)


def _settled(
    before: Collected,
    sums: Moments,
    flaw: Flaw,
    batch: Batch,
    features: StageFeatures,
    until: Mapping[str, float] | None,
    describe: Callable[[int], str],
) -> tuple[Collected, Batch, StageFeatures]:
    """What has been found with a batch that is done, once it is known to be sound."""
    _check_finite(flaw, batch.index, describe)
    return Collected(sums, before.batches + 1, bool(until) and narrow_enough(sums, until)), batch, features


def collect_all(measure: Callable[[Array], Stages], batches: Iterable[Batch], **options: Any) -> Moments:
    """Moments of all batches; raises InputError if there is no image, and as `collect` does."""
    moments = None
    for found, *_ in collect(measure, batches, **options):
        moments = found.moments
    if moments is None or not moments.count:
        raise InputError("no images to take statistics of; give at least one")
    return jax.device_get(moments)


def narrow_enough(moments: Moments, until: Mapping[str, float]) -> bool:
    """Whether the 95 % intervals of all layers and heads are at most so wide on either side."""
    count = int(moments.count)
    if count < 2:
        return False
    groups = [own for stage in moments.squares for own in (*stage.heads.values(), *stage.layers.values())]
    widths = [
        (uncertainty(np.asarray(own[name]), count)[1].max(), limit)
        for name, limit in until.items()
        for own in groups
        if name in own
    ]
    return bool(widths) and all(width <= limit for width, limit in widths)


def _check_finite(flaw: Flaw, index: Int[np.ndarray, "b"], describe: Callable[[int], str]) -> None:
    if not flaw.found:
        return
    where = f"block {int(flaw.layer)}" if flaw.layer else "the embedded patches"
    raise InputError(
        f"{where} gives values that are not finite for {describe(int(index[int(flaw.row)]))}; look at this image, the "
        "weights, or the type of the computation"
    )


def layered_features(stages: Iterable[Mapping[str, Any]], valid: Bool[np.ndarray, "b"]) -> Features:
    """Features of the valid images of a batch, layer by layer, on the host."""
    layered: Features = {}
    for features in stages:
        for kind, stacked in features.items():
            layered.setdefault(kind, []).extend(np.asarray(stacked, np.float32)[:, valid])
    return layered
