"""From settings to the objects of a run: objective, data, schedule, optimizer."""

import dataclasses
from collections.abc import Callable
from typing import Any

import optax

from mim_jax.data.pipeline import TrainingBatches
from mim_jax.data.preprocessing import Preprocessing, normalise
from mim_jax.data.reading import Reader
from mim_jax.data.sources import Source, open_source
from mim_jax.data.transforms import Transform, make_transform
from mim_jax.errors import InputError
from mim_jax.experiments.settings import Settings
from mim_jax.models.blocks import Computation
from mim_jax.models.presets import encoder_config
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.training.optimizers import adamw
from mim_jax.training.schedules import linear_scaling, warmup_half_cosine


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Length of a run and its learning rate.

    Attributes:
        steps_per_epoch: whole batches in the training set.
        total_steps: updates in all.
        warmup_steps: updates of the warm-up.
        peak: learning rate after the warm-up.
        learning_rate: step to learning rate.
    """

    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    peak: float
    learning_rate: optax.Schedule


def make_objective(settings: Settings) -> MaskedAutoencoder:
    """The objective that the settings name; raises InputError if its sizes do not fit together."""
    model, method, efficiency = settings.model, settings.method, settings.efficiency
    changes = {name: getattr(model, name) for name in ("patch_size", "width", "depth", "num_heads")}
    changes = {name: value for name, value in changes.items() if value}
    encoder = encoder_config(model.name, image_size=model.image_size, channels=model.channels, **changes)
    decoder = DecoderConfig(method.decoder_width, method.decoder_depth, method.decoder_heads)
    computation = Computation(efficiency.dtype, efficiency.remat, efficiency.scan_blocks)
    try:
        return MaskedAutoencoder(encoder, decoder, method.mask_ratio, method.norm_pix_loss, computation)
    except ValueError as error:
        raise InputError(f"config.method: {error}") from error


def make_preprocessing(settings: Settings) -> Preprocessing:
    """What the encoder expects of its input."""
    return Preprocessing(settings.model.image_size, settings.model.channels, settings.data.mean, settings.data.std)


def make_prepare(preprocessing: Preprocessing) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function that turns a batch of uint8 images into one of normalised images, on the device."""

    def prepare(batch: dict[str, Any]) -> dict[str, Any]:
        return batch | {"image": normalise(batch["image"], preprocessing.mean, preprocessing.std)}

    return prepare


def open_training_source(settings: Settings) -> Source:
    """The training images; raises InputError if their number or their channels are not what the settings say."""
    data = settings.data
    source = open_source(data.source, data.train_split, data_dir=data.data_dir)
    _, record = Reader(source, data.on_corrupt).read(0)
    channels = record["image"].shape[-1]
    if channels != settings.model.channels:
        raise InputError(
            f"images of {data.source} have {channels} channel{'s' * (channels > 1)}, but config.model.channels is "
            f"{settings.model.channels}; set it, and the length of config.data.mean and config.data.std, to {channels}"
        )
    if data.train_examples and len(source) != data.train_examples:
        raise InputError(
            f"{data.source} has {len(source)} training images, but config.data.train_examples is "
            f"{data.train_examples}; set it to {len(source)} (the schedule depends on it) or complete the data"
        )
    return source


def training_transform(settings: Settings) -> Transform:
    """The augmentation of training images."""
    data = settings.data
    options: dict[str, Any] = {}
    if data.transform == "mae_pretrain":
        options["scale"] = data.crop_scale
    if data.transform != "none":
        options["flip_probability"] = data.flip_probability
    return make_transform(data.transform, image_size=settings.model.image_size, **options)


def evaluation_transform(settings: Settings) -> Transform:
    """The crop of test images, and of training images whose features are probed."""
    data = settings.data
    options = {"crop_fraction": data.crop_fraction} if data.crop_fraction else {}
    return make_transform(data.evaluation_transform, image_size=settings.model.image_size, **options)


def make_batches(settings: Settings, source: Source, process_index: int, process_count: int) -> TrainingBatches:
    """Training batches as a function of the step."""
    return TrainingBatches(
        source,
        training_transform(settings),
        batch_size=settings.optimization.batch_size,
        seed=settings.optimization.seed,
        process_index=process_index,
        process_count=process_count,
        on_corrupt=settings.data.on_corrupt,
        num_threads=settings.efficiency.loader_threads or None,
    )


def make_schedule(settings: Settings, examples: int) -> Schedule:
    """The schedule over `examples` training images; raises InputError if not a single step fits."""
    optimization = settings.optimization
    per_epoch = examples // optimization.batch_size
    total, warmup = round(optimization.epochs * per_epoch), round(optimization.warmup_epochs * per_epoch)
    if total < 1:
        raise InputError(
            f"{optimization.epochs} epochs of {examples} images in batches of {optimization.batch_size} are not one "
            "step; lower config.optimization.batch_size or raise config.optimization.epochs"
        )
    peak = linear_scaling(optimization.base_learning_rate, optimization.batch_size)
    rate = warmup_half_cosine(peak, warmup_steps=warmup, total_steps=total, final=optimization.final_learning_rate)
    return Schedule(per_epoch, total, warmup, peak, rate)


def make_optimizer(settings: Settings, schedule: Schedule) -> optax.GradientTransformation:
    """AdamW with the decay groups of pre-training."""
    optimization = settings.optimization
    return adamw(
        schedule.learning_rate,
        betas=(optimization.beta1, optimization.beta2),
        weight_decay=optimization.weight_decay,
        clip_norm=optimization.clip_norm,
    )
