"""The settings of a pre-training run: what a configuration may say, and its checks.

A configuration file gives an `ml_collections.ConfigDict`; `resolve` turns it into the frozen dataclasses below, and
nothing beneath the experiments ever sees the ConfigDict. The groups tell what a key can do: `method`, `model`, `data`,
`optimization` and `evaluation` change the numbers; `efficiency` and `run` never do.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from mim_jax.experiments.building import Config, build_settings, new_config
from mim_jax.experiments.checks import check_settings
from mim_jax.experiments.read_keys import PRETRAINING, check_read
from mim_jax.experiments.shared_settings import Computing, TrainingImages
from mim_jax.experiments.shown_settings import shown_settings


@dataclasses.dataclass(frozen=True)
class LutMethod:
    """What LUT adds to MAE: the contextualisation loss, its teacher and its heads."""

    reconstruction_weight: float = 1.0
    contextualization_weight: float = 0.25
    momentum: float = 0.996
    projector_depth: int = 2
    predictor_depth: int = 2
    head_width: int = 4096
    head_norm: str = "batch"
    head_activation: str = "relu"
    one_directional: bool = False
    independent_masks: bool = False


@dataclasses.dataclass(frozen=True)
class SupervisedMethod:
    """Training with labels: how the encoder is read, and what is done to a batch."""

    num_classes: int = 0
    readout: str = "mean"
    label_smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    erasing: float = 0.25


@dataclasses.dataclass(frozen=True)
class Method:
    """The objective: "mae", "simmim", "lut" or "supervised".

    `masking` is "uniform", "coarse", "blockwise" or "grid"; `mask_patch` is the side in pixels of SimMIM's mask cells.
    `norm_pix_loss` normalises the target of MAE and LUT patch by patch, a `target_window` above 0 that of SimMIM by the
    surroundings of every pixel. The decoder is that of MAE and LUT.
    """

    name: str = "mae"
    mask_ratio: float = 0.75
    masking: str = "uniform"
    mask_patch: int = 32
    norm_pix_loss: bool = False
    target_window: int = 0
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    lut: LutMethod = LutMethod()
    supervised: SupervisedMethod = SupervisedMethod()


@dataclasses.dataclass(frozen=True)
class Model:
    """The encoder: a preset and what differs from it (an empty tuple, 0 or -1 keeps the preset's value).

    `depth` and `num_heads` belong to a Vision Transformer, `depths`, `stage_heads` and `window` to a Swin. Any other
    field of the encoder's configuration can stand in `options`.
    """

    name: str = "vit_base_patch16"
    image_size: tuple[int, ...] = (224, 224)
    patch_size: tuple[int, ...] = ()
    channels: int = 3
    width: int = 0
    depth: int = 0
    num_heads: int = 0
    depths: tuple[int, ...] = ()
    stage_heads: tuple[int, ...] = ()
    window: int = 0
    drop_path_rate: float = -1.0
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Data(TrainingImages):
    """The images of a run, and by which mean and deviation they are normalised.

    `train_examples` states the size of the training set where it is known before the data is at hand; it is checked
    against the source.
    """

    train_examples: int = 0
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Optimization:
    """AdamW, its schedule and its length.

    By the `learning_rate_rule` "linear" the peak learning rate is `base_learning_rate * batch_size / reference_batch`,
    by "square_root" (LUT) it is `base_learning_rate * sqrt(batch_size) / 4`. The `schedule` is "half_cosine" (MAE,
    LUT), or SimMIM's "cosine" (counted from the first step, also through the warm-up), "multistep", "step" or "linear";
    SimMIM's scale the first rate of the warm-up and the final one like the peak, and their first two updates have the
    same rate. `milestones` and `decay_epochs` are in epochs. A `layer_decay` below 1 multiplies the learning rate of
    every layer by one more factor, from the last to the first.
    """

    seed: int = 0
    batch_size: int = 4096
    epochs: float = 800.0
    warmup_epochs: float = 40.0
    base_learning_rate: float = 1.5e-4
    learning_rate_rule: str = "linear"
    reference_batch: int = 256
    schedule: str = "half_cosine"
    warmup_learning_rate: float = 0.0
    final_learning_rate: float = 0.0
    milestones: tuple[float, ...] = ()
    decay_epochs: float = 30.0
    decay_factor: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    clip_norm: float = 0.0
    ema_decay: float = 0.0


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is measured on frozen features. `knn_every` and `statistics_every` are in steps, 0 means never.

    Probes and k-NN need labels. Every `statistics_every` steps attention distance, entropy and divergence between heads
    of every layer, and RankMe of the last one, are logged, of `attention_images` test images.

    `train_images` bounds the training images whose features are probed (a fixed random part; 0 takes all).
    """

    probe: bool = False
    attention: bool = True
    knn_every: int = 0
    statistics_every: int = 0
    shots: tuple[int, ...] = (1, 5, 10)
    draws: int = 5
    train_images: int = 0
    attention_images: int = 256
    batch_size: int = 256


@dataclasses.dataclass(frozen=True)
class Efficiency(Computing):
    """How a run is computed: never changes the numbers beyond rounding."""

    remat: str = "none"
    scan_blocks: bool = False
    accumulation: int = 1


@dataclasses.dataclass(frozen=True)
class Run:
    """What the run writes and when, in steps; 0 means never."""

    log_every: int = 20
    checkpoint_every: int = 1000
    keep_last: int = 2
    keep_every: int = 0
    panel_every: int = 1000
    panel_images: int = 8
    tensorboard: bool = True
    wandb_project: str = ""
    profile_start: int = 10
    profile_steps: int = 0
    dry_run: bool = False
    allow_config_change: bool = False


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a run."""

    method: Method = Method()
    model: Model = Model()
    data: Data = Data()
    optimization: Optimization = Optimization()
    evaluation: Evaluation = Evaluation()
    efficiency: Efficiency = Efficiency()
    run: Run = Run()

    def __repr__(self) -> str:
        return shown_settings(self)


NUMBERS = ("method", "model", "data", "optimization")
"""Groups that decide what is learned: a run may only be continued with the same."""


def default_config() -> Config:
    """A configuration with every key at its default, for a configuration file to change."""
    return new_config(Settings())


def resolve(config: ml_collections.ConfigDict | Mapping[str, Any]) -> Settings:
    """Frozen settings from a ConfigDict or nested dict; missing keys keep their defaults.

    Raises InputError for an unknown key, with the nearest known one, for a value of the wrong type, for a number out of
    its range, for what cannot go together, and for a key that would not be read.
    """
    settings = build_settings(Settings, config)
    check_settings(settings)
    check_read(settings, PRETRAINING)
    return settings
