"""Checks of settings: numbers within their ranges, names that there are, and keys that fit together."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mim_jax.errors import InputError, nearest, ranked
from mim_jax.experiments.read_keys import SWIN, encoder_family
from mim_jax.experiments.shared_settings import EVALUATION_TRANSFORMS, TRANSFORM_OPTIONS, Augmentation
from mim_jax.models.swin_presets import SWIN_ENCODERS
from mim_jax.models.vit_presets import VIT_ENCODERS

AUGMENTED = {"data.flip_probability": (0.0, 1.0), "data.rand_augment": (0.0, 10.0)}
"""Ranges of what augments images, both ends included."""
IMAGES = {
    "data.on_corrupt": ("skip", "stop"),
    "data.evaluation_transform": EVALUATION_TRANSFORMS,
    "efficiency.dtype": ("float32", "bfloat16"),
}
AUGMENTATIONS = {"data.interpolation": ("bicubic", "bilinear"), "data.transform": tuple(TRANSFORM_OPTIONS)}
"""Choices that commands share."""

POSITIVE = (
    "optimization.batch_size", "optimization.epochs", "model.channels", "efficiency.accumulation",
    "efficiency.mesh_fsdp", "efficiency.mesh_tensor", "run.log_every", "optimization.base_learning_rate",
    "evaluation.draws", "evaluation.batch_size", "run.keep_last", "method.decoder_width",
    "method.decoder_depth", "method.decoder_heads", "method.mask_patch", "optimization.reference_batch",
    "optimization.decay_epochs", "optimization.decay_factor", "optimization.layer_decay", "method.lut.head_width",
    "model.image_size", "model.patch_size", "data.std", "evaluation.shots", "optimization.milestones",
)  # fmt: skip
NOT_NEGATIVE = (
    "optimization.seed", "optimization.warmup_epochs",
    "optimization.final_learning_rate", "optimization.weight_decay", "optimization.clip_norm", "run.checkpoint_every",
    "run.keep_every", "run.panel_every", "run.panel_images", "run.profile_start", "run.profile_steps",
    "evaluation.knn_every", "evaluation.statistics_every", "evaluation.train_images", "evaluation.attention_images",
    "model.width", "model.depth",
    "model.num_heads",
    "data.train_examples", "data.crop_fraction", "efficiency.loader_threads", "model.window",
    "method.target_window", "optimization.warmup_learning_rate", "method.supervised.num_classes",
    "method.supervised.mixup", "method.supervised.cutmix", "method.lut.reconstruction_weight",
    "method.lut.contextualization_weight", "method.lut.projector_depth", "method.lut.predictor_depth",
)  # fmt: skip
BELOW_ONE = (
    "method.mask_ratio", "optimization.ema_decay", "optimization.beta1", "optimization.beta2", "method.lut.momentum",
    "method.supervised.label_smoothing",
)  # fmt: skip
WITHIN = AUGMENTED | {
    "method.supervised.erasing": (0.0, 1.0),
    "data.crop_fraction": (0.0, 1.0),
    "model.drop_path_rate": (-1.0, 0.99),
}
CHOICES = {
    "method.name": ("mae", "simmim", "lut", "supervised"),
    "method.masking": ("uniform", "coarse", "blockwise", "grid"),
    "method.lut.head_norm": ("batch", "layer", "none"),
    "method.lut.head_activation": ("relu", "gelu"),
    "optimization.learning_rate_rule": ("linear", "square_root"),
    "optimization.schedule": ("half_cosine", "cosine", "multistep", "step", "linear"),
    "efficiency.remat": ("none", "full", "dots", "dots_no_batch"),
    **IMAGES,
    **AUGMENTATIONS,
}


def check_settings(settings: Any) -> None:
    """Raises InputError for a pre-training run whose numbers are out of range, or that could not be or mean nothing."""
    check_ranges(settings, positive=POSITIVE, not_negative=NOT_NEGATIVE, below_one=BELOW_ONE, within=WITHIN)
    check_choices(settings, CHOICES)
    for mistake in (*_mistakes_of_model(settings), *_mistakes_of_run(settings), *augmentation_mistakes(settings.data)):
        raise InputError(mistake)


def value_of(settings: object, key: str) -> Any:
    """The value at a dotted key."""
    return operator.attrgetter(key)(settings)


def refuse(settings: object, key: str, rule: str) -> None:
    """Raises InputError for the value at a key."""
    raise InputError(f"config.{key} is {value_of(settings, key)!r}; it must be {rule}")


def check_ranges(
    settings: object,
    *,
    positive: Sequence[str] = (),
    not_negative: Sequence[str] = (),
    below_one: Sequence[str] = (),
    within: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Raises InputError for a number out of its range; of a tuple every number counts."""

    def numbers(key: str) -> tuple[int | float, ...]:
        value = value_of(settings, key)
        return value if isinstance(value, tuple) else (value,)

    for key in positive:
        if not all(number > 0 for number in numbers(key)):
            refuse(settings, key, "greater than 0")
    for key in not_negative:
        if not all(number >= 0 for number in numbers(key)):
            refuse(settings, key, "at least 0")
    for key in below_one:
        if not all(0 <= number < 1 for number in numbers(key)):
            refuse(settings, key, "at least 0 and less than 1")
    for key, (low, high) in (within or {}).items():
        if not all(low <= number <= high for number in numbers(key)):
            refuse(settings, key, f"from {low:g} to {high:g}")


def check_choices(settings: object, choices: Mapping[str, Sequence[str]]) -> None:
    """Raises InputError for a name that is none of its choices; of a tuple every name counts."""
    for key, known in choices.items():
        value = value_of(settings, key)
        for name in value if isinstance(value, tuple) else (value,):
            if name not in known:
                near = ranked(name, known)[:1]
                hint = f" (did you mean '{near[0]}'?)" if near else ""
                refuse(settings, key, f"one of {', '.join(filter(None, known))}{hint}")


def check_encoders(encoders: Mapping[str, Any], purpose: str) -> None:
    """Raises InputError if there are no encoders to `purpose`, or one is no name and path."""
    if not encoders:
        raise InputError(f"no encoder to {purpose}; give --encoder=NAME=PATH, or set config.encoders in the file")
    for name, where in encoders.items():
        if not isinstance(where, str) or "/" in name:
            raise InputError(f"encoder '{name}' must be a name without a slash and a path, not {where!r}")


def augmentation_mistakes(data: Augmentation) -> Iterator[str]:
    """What is wrong with how images are cropped at random."""
    if len(data.crop_scale) != 2 or not 0 < data.crop_scale[0] <= data.crop_scale[1] <= 1:
        yield f"config.data.crop_scale is {data.crop_scale}; it must be two shares of the area, 0 < low <= high <= 1"


def _mistakes_of_model(settings: Any) -> Iterator[str]:
    model, data, method = settings.model, settings.data, settings.method.name
    if model.name not in VIT_ENCODERS | SWIN_ENCODERS:
        yield f"unknown encoder '{model.name}'; {nearest(model.name, VIT_ENCODERS | SWIN_ENCODERS)}"
    if len(model.image_size) != 2:
        yield f"config.model.image_size is {model.image_size}; it must be two numbers, height and width"
    if len(model.patch_size) not in (0, 2):
        rule = "two numbers, height and width, or () for the preset's"
        yield f"config.model.patch_size is {model.patch_size}; it must be {rule}"
    for key, numbers in (("mean", data.mean), ("std", data.std)):
        if len(numbers) != model.channels:
            yield (
                f"config.data.{key} is {numbers}; it must be one number for each of the {model.channels} channels "
                "(config.model.channels)"
            )
    if method in ("mae", "lut") and encoder_family(model.name) == SWIN:
        yield (
            f"{method.upper()} leaves patches out, which needs a Vision Transformer, and '{model.name}' is {SWIN}; "
            "choose such an encoder, or config.method.name=simmim"
        )


def _mistakes_of_run(settings: Any) -> Iterator[str]:
    optimization, evaluation, method = settings.optimization, settings.evaluation, settings.method
    yield from schedule_mistakes("optimization", optimization.epochs, optimization.warmup_epochs)
    milestones = optimization.milestones
    if list(milestones) != sorted(set(milestones)):
        yield f"config.optimization.milestones is {milestones}; give epochs in ascending order, each once"
    if optimization.schedule == "multistep" and not milestones:
        yield "the schedule 'multistep' needs config.optimization.milestones, the epochs at which the rate falls"
    measured = evaluation.attention or evaluation.statistics_every
    if measured and evaluation.attention_images < 2:
        yield (
            f"config.evaluation.attention_images is {evaluation.attention_images}; attention is measured of two images "
            "at least (config.evaluation.attention=False and statistics_every=0 leave it out)"
        )
    if method.name == "lut" and method.lut.reconstruction_weight + method.lut.contextualization_weight == 0:
        yield "config.method.lut.reconstruction_weight and contextualization_weight are both 0, so nothing is learned"
    if method.name == "lut" and method.lut.head_norm == "batch" and optimization.batch_size < 2:
        yield (
            "config.method.lut.head_norm=batch makes every batch of one image alike; raise "
            "config.optimization.batch_size, or choose 'layer'"
        )


def schedule_mistakes(group: str, epochs: float, warmup: float) -> Iterator[str]:
    """What is wrong with the length of a warm-up."""
    if warmup > epochs:
        yield (
            f"config.{group}.warmup_epochs is {warmup:g}, longer than the {epochs:g} epochs of the training "
            f"(config.{group}.epochs), so the learning rate would never reach its peak"
        )
