"""The settings of an analysis."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from mim_jax.analysis.definitions import HEAD_STATISTICS, LAYER_STATISTICS, QUERIES, check_statistics
from mim_jax.errors import InputError
from mim_jax.experiments.building import Config, build_settings, new_config
from mim_jax.experiments.checks import (
    AUGMENTATIONS,
    AUGMENTED,
    IMAGES,
    augmentation_mistakes,
    check_choices,
    check_encoders,
    check_ranges,
)
from mim_jax.experiments.read_keys import ANALYSIS, check_read
from mim_jax.experiments.shared_settings import AugmentedImages, Computing
from mim_jax.experiments.shown_settings import shown_settings

SAMPLES = ("class", "pooled", "flattened", "tokens")
ESTIMATORS = ("unbiased", "biased", "minibatch")
MAPS = ("pca", "tsne", "umap", "")
IMPLEMENTATIONS = ("", "dense", "streamed", "tpu_kernel")


@dataclasses.dataclass(frozen=True)
class StatisticsOf:
    """Statistics over images.

    `images` bounds their number (a fixed random part of the test images; 0 takes all). `names` are statistics of
    `docs/analysis.md` and `queries` "class", "registers" or "patches"; () takes all that there are. With `until`, such
    as `("attention_distance=0.5",)`, the pass ends as soon as the 95 % interval of every layer and head reaches no
    further than this to either side. `compat` computes beside what the code of other papers would give.
    `spectra_images` bounds the images whose token spectra are computed.
    """

    images: int = 1000
    names: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    compat: bool = False
    implementation: str = ""
    spectra_images: int = 64

    @property
    def limits(self) -> dict[str, float]:
        """Half the widths of `until` by statistic; raises InputError for what is no NAME=NUMBER."""
        return dict(map(_limit, self.until))


def _limit(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        limit = float(number)
    except ValueError:
        limit = 0.0
    if limit <= 0:
        raise InputError(f"config.statistics.until has '{text}', no NAME=NUMBER such as attention_distance=0.5")
    return name, limit


@dataclasses.dataclass(frozen=True)
class RepresentationsOf:
    """What the features of all images together show.

    `samples` says what stands for an image (or a sample) behind a block: its "class" token, the mean of its patches
    ("pooled"), all tokens in one vector ("flattened"), or every patch token by itself ("tokens"). `images` bounds the
    images (0 takes all that statistics are taken of), `token_images` those of "flattened" and "tokens".
    `lidar_images` is the number of images that LiDAR takes `lidar_views` augmented views of each (0 leaves it out).
    """

    samples: tuple[str, ...] = ("class", "pooled")
    cka: str = "unbiased"
    across: bool = True
    neighbours: int = 10
    images: int = 2000
    token_images: int = 256
    embedding_map: str = "pca"
    lidar_images: int = 0
    lidar_views: int = 10


@dataclasses.dataclass(frozen=True)
class AnalyzeRun:
    """What the run writes and when. `pictures` is the number of images that attention maps are drawn of. Without
    `report` there are tables and arrays only.

    Of several independent runs `part=(i, n)` takes every n-th image from i on; `merge` names the workdirs of all the
    others, whose sums this run adds to its own before it writes tables and figures.
    """

    batch_size: int = 32
    checkpoint_every: int = 20
    log_every: int = 10
    pictures: int = 3
    report: bool = True
    part: tuple[int, ...] = (0, 1)
    merge: tuple[str, ...] = ()
    seed: int = 0
    allow_config_change: bool = False


@dataclasses.dataclass(frozen=True)
class AnalyzeSettings:
    """All settings of an analysis.

    `encoders` names the encoders and says where they are: anything that `mim_jax.load` reads, or "random:PATH" for the
    same architecture at random initialisation. `stated` says by name what a checkpoint cannot tell, such as
    `{"MAE": "num_heads=12"}`.
    """

    experiment: str = "analyze"
    encoders: dict[str, Any] = dataclasses.field(default_factory=dict)
    stated: dict[str, Any] = dataclasses.field(default_factory=dict)
    data: AugmentedImages = AugmentedImages()
    statistics: StatisticsOf = StatisticsOf()
    representations: RepresentationsOf = RepresentationsOf()
    efficiency: Computing = Computing()
    run: AnalyzeRun = AnalyzeRun()

    def __repr__(self) -> str:
        return shown_settings(self)


NUMBERS = ("encoders", "stated", "data", "statistics")
"""Keys that decide what is measured: a run may only be continued with the same."""


def default_analyze_config() -> Config:
    """A configuration with every key at its default, for a configuration file to change."""
    return new_config(AnalyzeSettings())


def resolve_analyze(config: ml_collections.ConfigDict | Mapping[str, Any]) -> AnalyzeSettings:
    """Frozen settings.

    Raises InputError for an unknown key or name, a wrong type, a number out of its range, and a key that would not be
    read.
    """
    settings = build_settings(AnalyzeSettings, config)
    check_encoders(settings.encoders, "analyse")
    check_choices(settings, CHOICES)
    check_ranges(settings, positive=POSITIVE, not_negative=NOT_NEGATIVE, within=WITHIN)
    _check_limits(settings)
    _check_numbers(settings)
    check_read(settings, ANALYSIS)
    return settings


def with_compat(settings: AnalyzeSettings) -> AnalyzeSettings:
    """The same settings with the numbers of other papers' code."""
    return dataclasses.replace(settings, statistics=dataclasses.replace(settings.statistics, compat=True))


def _check_limits(settings: AnalyzeSettings) -> None:
    statistics = settings.statistics
    limits = statistics.limits
    check_statistics((*statistics.names, *limits))
    for name in limits:
        if name not in HEAD_STATISTICS | LAYER_STATISTICS:
            raise InputError(f"'{name}' has no interval over images, so config.statistics.until cannot wait for it")
        if statistics.names and name not in statistics.names:
            raise InputError(f"config.statistics.until waits for '{name}', which config.statistics.names leaves out")


def _check_numbers(settings: AnalyzeSettings) -> None:
    run, representations = settings.run, settings.representations
    for mistake in augmentation_mistakes(settings.data):
        raise InputError(mistake)
    if settings.statistics.images == 1:
        raise InputError("config.statistics.images is 1; an interval needs two images at least")
    if len(run.part) != 2 or not 0 <= run.part[0] < run.part[1]:
        raise InputError(f"config.run.part must be (i, n) with 0 <= i < n, not {run.part}")
    if representations.lidar_images and representations.lidar_views < 2:
        raise InputError(f"config.representations.lidar_views must be 2 at least, not {representations.lidar_views}")


POSITIVE = (
    "run.batch_size", "run.log_every", "representations.neighbours", "efficiency.mesh_fsdp", "efficiency.mesh_tensor",
)  # fmt: skip
NOT_NEGATIVE = (
    "statistics.images", "statistics.spectra_images", "representations.images", "representations.token_images",
    "representations.lidar_images", "run.pictures", "run.checkpoint_every", "run.seed", "data.crop_fraction",
    "efficiency.loader_threads",
)  # fmt: skip
WITHIN = AUGMENTED | {"data.crop_fraction": (0.0, 1.0)}
CHOICES = {
    "statistics.queries": QUERIES,
    "statistics.implementation": IMPLEMENTATIONS,
    "representations.samples": SAMPLES,
    "representations.cka": ESTIMATORS,
    "representations.embedding_map": MAPS,
    **IMAGES,
    **AUGMENTATIONS,
}
