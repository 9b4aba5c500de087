"""From settings to the schedule and the optimizer of a run."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

from mim_jax.errors import InputError
from mim_jax.experiments.settings import Optimization, Settings
from mim_jax.models.build import family
from mim_jax.models.stacking import stack_blocks
from mim_jax.pretraining.objective import Objective
from mim_jax.training.optimizers import (
    FINE_TUNING_DECAY,
    PRETRAINING_DECAY,
    SIMMIM_SWIN_DECAY,
    SIMMIM_VIT_DECAY,
    SWIN_DECAY,
    adamw,
    layerwise_scale,
)
from mim_jax.training.schedules import (
    Decay,
    GroupSchedule,
    cosine_decay,
    linear_decay,
    linear_scaling,
    multistep_decay,
    square_root_scaling,
    step_decay,
    warmup_half_cosine,
)
from mim_jax.training.trees import Rules


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
    peak = _scaled(optimization, optimization.base_learning_rate)
    if optimization.schedule == "half_cosine":
        final = optimization.final_learning_rate
        rate = warmup_half_cosine(peak, warmup_steps=warmup, total_steps=total, final=final)
        return Schedule(per_epoch, total, warmup, peak, rate)
    decay = DECAYS[optimization.schedule](optimization, per_epoch, total, warmup)
    first = _scaled(optimization, optimization.warmup_learning_rate)
    return Schedule(per_epoch, total, warmup, peak, GroupSchedule(peak, decay, warmup, first, delayed=True))


def _scaled(optimization: Optimization, rate: float) -> float:
    """A learning rate for the batch size of the run."""
    if optimization.learning_rate_rule == "square_root":
        return square_root_scaling(rate, optimization.batch_size)
    return linear_scaling(rate, optimization.batch_size, optimization.reference_batch)


def _steps(epochs: float, per_epoch: int) -> int:
    return round(epochs * per_epoch)


DECAYS: dict[str, Callable[[Optimization, int, int, int], Decay]] = {
    "cosine": lambda o, per_epoch, total, warmup: cosine_decay(total, final=_scaled(o, o.final_learning_rate)),
    "multistep": lambda o, per_epoch, total, warmup: multistep_decay(
        [_steps(epochs, per_epoch) for epochs in o.milestones], factor=o.decay_factor
    ),
    "step": lambda o, per_epoch, total, warmup: step_decay(
        max(_steps(o.decay_epochs, per_epoch), 1), factor=o.decay_factor
    ),
    "linear": lambda o, per_epoch, total, warmup: linear_decay(total, start=warmup),
}
"""Name of a schedule to what follows its warm-up."""

WEIGHT_DECAY: dict[tuple[str, str], Rules] = {
    ("mae", "vision_transformer"): PRETRAINING_DECAY,
    ("lut", "vision_transformer"): PRETRAINING_DECAY,
    ("simmim", "vision_transformer"): SIMMIM_VIT_DECAY,
    ("simmim", "swin_transformer"): SIMMIM_SWIN_DECAY,
    ("supervised", "vision_transformer"): FINE_TUNING_DECAY,
    ("supervised", "swin_transformer"): SWIN_DECAY,
}
"""Method and family of the encoder to the parameters that decay, as in the original of each."""


def make_optimizer(settings: Settings, schedule: Schedule, objective: Objective) -> optax.GradientTransformation:
    """AdamW with the groups of the original: which parameters decay, and the learning rate of every layer."""
    optimization = settings.optimization
    return adamw(
        schedule.learning_rate,
        betas=(optimization.beta1, optimization.beta2),
        weight_decay=optimization.weight_decay,
        decay=WEIGHT_DECAY[settings.method.name, family(objective.encoder_config)],
        clip_norm=optimization.clip_norm,
        learning_rate_scale=_layer_scale(settings, objective),
    )


def _layer_scale(settings: Settings, objective: Objective) -> Any:
    decay = settings.optimization.layer_decay
    if decay == 1:
        return None
    shapes = jax.eval_shape(objective.init, jax.random.key(0))
    if settings.efficiency.scan_blocks:
        shapes = jax.eval_shape(stack_blocks, shapes)
    depths = objective.encoder_config.depths
    vit = family(objective.encoder_config) == "vision_transformer"
    return layerwise_scale(shapes, depth=depths[0] if vit else depths, decay=decay)
