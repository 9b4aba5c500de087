"""The settings of a probing run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from mim_jax.errors import InputError
from mim_jax.experiments.checks import build_settings, check_encoders
from mim_jax.experiments.settings import Data, Efficiency
from mim_jax.experiments.shown_settings import shown_settings

PROTOCOLS = ("trained", "k-NN", "logistic")
SCALINGS = ("none", "z-score")
OPTIMIZERS = ("lars", "sgd", "adamw")
STARTS = ("torch_default", "normal", "zeros")


@dataclasses.dataclass(frozen=True)
class Readings:
    """What is read of every encoder: all combinations, as far as the encoder has them.

    `layers` are numbers of blocks from 1, negative ones from the end (-1 is the last); () is all. `poolings` are as
    `probing.pooling.make_pooling` reads them. `final_norm` says whether the encoder's last norm comes first; True is
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
    """

    experiment: str = "probe"
    encoders: dict[str, Any] = dataclasses.field(default_factory=dict)
    stated: dict[str, Any] = dataclasses.field(default_factory=dict)
    protocols: tuple[str, ...] = PROTOCOLS
    data: Data = Data(transform="linear_probe", crop_scale=(0.08, 1.0))
    readings: Readings = Readings()
    trained: Trained = Trained()
    frozen: Frozen = Frozen()
    efficiency: Efficiency = Efficiency()
    run: ProbeRun = ProbeRun()

    def __repr__(self) -> str:
        return shown_settings(self)


def default_probe_config() -> ml_collections.ConfigDict:
    """A ConfigDict with every key at its default, for a configuration file to change."""
    return ml_collections.ConfigDict(dataclasses.asdict(ProbeSettings()))


def resolve_probe(config: ml_collections.ConfigDict | Mapping[str, Any]) -> ProbeSettings:
    """Frozen settings; raises InputError for an unknown key, a wrong type, or a number out of its range."""
    settings = build_settings(ProbeSettings, config, "config")
    _check(settings)
    return settings


def _check(settings: ProbeSettings) -> None:
    trained, frozen = settings.trained, settings.frozen
    check_encoders(settings.encoders, "probe")
    for protocol in settings.protocols:
        if protocol not in PROTOCOLS:
            raise InputError(f"unknown protocol '{protocol}'; known are {', '.join(PROTOCOLS)}")
    choices = {
        "frozen.scaling": (frozen.scaling, SCALINGS),
        "trained.optimizer": (trained.optimizer, OPTIMIZERS),
        "trained.head_init": (trained.head_init, STARTS),
    }
    for key, (value, known) in choices.items():
        if value not in known:
            raise InputError(f"config.{key} must be one of {', '.join(known)}, not '{value}'")
    positive = {
        "trained.batch_size": trained.batch_size, "trained.epochs": trained.epochs, "frozen.draws": frozen.draws,
        "frozen.temperature": frozen.temperature, "run.log_every": settings.run.log_every,
        "run.evaluation_batch_size": settings.run.evaluation_batch_size,
        "frozen.neighbours": min(frozen.neighbours, default=1), "frozen.shots": min(frozen.shots, default=1),
        "trained.learning_rates": min(trained.learning_rates, default=0),
    }  # fmt: skip
    for key, value in positive.items():
        if value <= 0:
            raise InputError(f"config.{key} must be positive, not {value}")
    if not trained.weight_decays or min(trained.weight_decays) < 0 or trained.warmup_epochs < 0:
        raise InputError("config.trained.weight_decays and warmup_epochs must be given and not negative")
    if not 0 < trained.held_out < 1:
        raise InputError(f"config.trained.held_out must lie between 0 and 1, not {trained.held_out}")
    if not settings.readings.poolings or not settings.readings.final_norm:
        raise InputError("config.readings needs at least one pooling, and True or False in final_norm")


NUMBERS = ("encoders", "stated", "data", "readings", "trained")
"""Keys that decide what is trained: a run may only be continued with the same."""
