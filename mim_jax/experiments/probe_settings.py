"""The settings of a probing run."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

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
    schedule_mistakes,
    value_of,
)
from mim_jax.experiments.read_keys import PROBING, check_read
from mim_jax.experiments.shared_settings import Computing, TrainingImages
from mim_jax.experiments.shown_settings import shown_settings

PROTOCOLS = ("trained", "k-NN", "logistic")
SCALINGS = ("none", "z-score")
OPTIMIZERS = ("lars", "sgd", "adamw")
STARTS = ("torch_default", "normal", "zeros")
DEFAULTS = "defaults"
WISHES = ("readings.layers", "readings.poolings", "readings.final_norm")
"""Keys that may be wishes."""


@dataclasses.dataclass(frozen=True)
class Readings:
    """What is read of every encoder: all combinations, as far as the encoder has them.

    `layers` are numbers of blocks from 1, negative ones from the end (-1 is the last); () is all. `poolings` are as
    `probing.pooling.make_pooling` reads them; heads that are not stated are the encoder's where those of the published
    pooling do not divide its width. `final_norm` says whether the encoder's last norm comes first; True is
    left out where there is none, or where it does not fit. `oracle` is the encoder whose class attention the pooling
    "oracle" takes.
    """

    layers: tuple[int, ...] = (-1,)
    poolings: tuple[str, ...] = ("cls", "mean")
    final_norm: tuple[bool, ...] = (False,)
    oracle: str = ""


@dataclasses.dataclass(frozen=True)
class Trained:
    """Heads that are trained: one for every reading, learning rate and weight decay, all in one pass over the data.

    The peak rate is `learning_rate * batch_size / 256`. A `held_out` part of the training images chooses among rates
    and decays (none is held out for a single one); the test images take part in no choice. Without `augment` the
    features of poolings that need no training are stored, and the encoder sees every image once.

    The `compat` switches repeat what an original did by mistake: stochastic depth of this rate in the frozen encoder
    while probes are trained (Beyond [cls] on SimMIM), and a batch norm that sees a part of the batch only (so many
    devices that do not synchronise).
    """

    optimizer: str = "lars"
    learning_rates: tuple[float, ...] = (0.1,)
    weight_decays: tuple[float, ...] = (0.0,)
    batch_size: int = 512
    epochs: float = 90.0
    warmup_epochs: float = 10.0
    batch_norm: bool = True
    head_init: str = "torch_default"
    held_out: float = 0.1
    augment: bool = True
    seed: int = 0
    compat_drop_path: float = 0.0
    compat_batch_norm_groups: int = 1


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Probes of stored features: nearest neighbours and logistic regression, of poolings that need no training.

    With `shots` they are repeated with so many labels a class, or with this share of them if below 1, `draws` times.
    `train_images` bounds the training images whose features are stored (a fixed random part; 0 takes all).
    """

    neighbours: tuple[int, ...] = (20,)
    temperature: float = 0.07
    scaling: str = "none"
    shots: tuple[float, ...] = ()
    draws: int = 5
    train_images: int = 0


@dataclasses.dataclass(frozen=True)
class ProbeRun:
    """What the run writes and when, in steps; 0 means never."""

    log_every: int = 50
    checkpoint_every: int = 500
    evaluation_batch_size: int = 256
    pictures: int = 6
    keep_last: int = 1
    allow_config_change: bool = False


@dataclasses.dataclass(frozen=True)
class ProbeSettings:
    """All settings of a probing run.

    `encoders` names the encoders and says where they are: anything that `mim_jax.load` reads, or "random:PATH" for the
    same architecture at random initialisation. `stated` says by name what a checkpoint cannot tell, such as
    `{"MAE": "num_heads=12"}`.

    `where_possible` names keys of `readings`, such as "readings.poolings", whose values are wishes: what an encoder
    does not have of them is told and left out, instead of refused; "defaults" stands for keys that were not changed. A
    key that is set on the command line is no wish.
    """

    experiment: str = "probe"
    encoders: dict[str, Any] = dataclasses.field(default_factory=dict)
    stated: dict[str, Any] = dataclasses.field(default_factory=dict)
    where_possible: tuple[str, ...] = (DEFAULTS,)
    protocols: tuple[str, ...] = PROTOCOLS
    data: TrainingImages = TrainingImages(transform="linear_probe", crop_scale=(0.08, 1.0))
    readings: Readings = Readings()
    trained: Trained = Trained()
    frozen: Frozen = Frozen()
    efficiency: Computing = Computing()
    run: ProbeRun = ProbeRun()

    def __repr__(self) -> str:
        return shown_settings(self)


def default_probe_config() -> Config:
    """A configuration with every key at its default, for a configuration file to change."""
    return new_config(ProbeSettings())


def resolve_probe(config: ml_collections.ConfigDict | Mapping[str, Any]) -> ProbeSettings:
    """Frozen settings.

    Raises InputError for an unknown key, a wrong type, a number out of its range, what cannot go together, and a key
    that would not be read.
    """
    settings = build_settings(ProbeSettings, config)
    check_encoders(settings.encoders, "probe")
    for protocol in settings.protocols:
        if protocol not in PROTOCOLS:
            raise InputError(f"unknown protocol '{protocol}'; known are {', '.join(PROTOCOLS)}")
    check_choices(settings, CHOICES)
    check_ranges(settings, positive=POSITIVE, not_negative=NOT_NEGATIVE, within=WITHIN)
    for mistake in _mistakes(settings):
        raise InputError(mistake)
    check_read(settings, PROBING)
    return settings


def wishes(settings: ProbeSettings) -> tuple[str, ...]:
    """The keys of `WISHES` whose values are wishes."""
    named, defaults = settings.where_possible, ProbeSettings()
    unchanged = [key for key in WISHES if value_of(settings, key) == value_of(defaults, key)]
    return tuple(key for key in WISHES if key in named or (DEFAULTS in named and key in unchanged))


def _mistakes(settings: ProbeSettings) -> Iterator[str]:
    trained, readings = settings.trained, settings.readings
    yield from augmentation_mistakes(settings.data)
    for key in ("protocols", "frozen.neighbours"):
        if not value_of(settings, key):
            yield f"config.{key} is empty; give one at least"
    if not readings.poolings or not readings.final_norm:
        yield "config.readings needs at least one pooling, and True or False in final_norm"
    if not trained.learning_rates or not trained.weight_decays:
        yield "config.trained.learning_rates and weight_decays must be given, one of each at least"
    if not 0 < trained.held_out < 1:
        yield f"config.trained.held_out must lie between 0 and 1, not {trained.held_out}"
    if "trained" in settings.protocols:
        yield from schedule_mistakes("trained", trained.epochs, trained.warmup_epochs)
    if trained.batch_norm and trained.batch_size < 2 * trained.compat_batch_norm_groups:
        yield (
            f"config.trained.batch_size is {trained.batch_size}, and a batch norm makes every image alike that it sees "
            "alone; raise it, or set config.trained.batch_norm=False"
        )


POSITIVE = (
    "trained.batch_size", "trained.epochs", "trained.learning_rates", "trained.compat_batch_norm_groups",
    "frozen.draws", "frozen.temperature", "frozen.neighbours", "frozen.shots", "run.log_every",
    "run.evaluation_batch_size", "run.keep_last", "efficiency.mesh_fsdp", "efficiency.mesh_tensor",
)  # fmt: skip
NOT_NEGATIVE = (
    "trained.weight_decays", "trained.warmup_epochs", "trained.seed", "frozen.train_images", "run.checkpoint_every",
    "run.pictures", "data.crop_fraction", "efficiency.loader_threads",
)  # fmt: skip
WITHIN = AUGMENTED | {"data.crop_fraction": (0.0, 1.0), "trained.compat_drop_path": (0.0, 0.99)}
CHOICES = {
    "frozen.scaling": SCALINGS,
    "trained.optimizer": OPTIMIZERS,
    "trained.head_init": STARTS,
    "where_possible": (DEFAULTS, *WISHES),
    **IMAGES,
    **AUGMENTATIONS,
}

NUMBERS = ("encoders", "stated", "data", "readings", "trained")
"""Keys that decide what is trained: a run may only be continued with the same."""
