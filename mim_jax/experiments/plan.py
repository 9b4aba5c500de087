"""From settings to the data of a run: source, transforms, batches."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mim_jax.data.pipeline import TrainingBatches
from mim_jax.data.preprocessing import Preprocessing, normalise
from mim_jax.data.reading import Reader
from mim_jax.data.sources import Source, open_source
from mim_jax.data.transforms import Transform, make_transform
from mim_jax.errors import InputError
from mim_jax.experiments.settings import Settings
from mim_jax.experiments.shared_settings import TRANSFORM_OPTIONS, Augmentation, EvaluationImages


def make_preprocessing(settings: Settings) -> Preprocessing:
    """What the encoder expects of its input."""
    return Preprocessing(image_size(settings), settings.model.channels, settings.data.mean, settings.data.std)


def image_size(settings: Settings) -> tuple[int, int]:
    """Height and width, which are two numbers once the settings are checked."""
    height, width = settings.model.image_size
    return height, width


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
    if settings.method.name == "supervised":
        _check_classes(settings, source)
    return source


def _check_classes(settings: Settings, source: Source) -> None:
    classes, wanted = len(source.class_names or ()), settings.method.supervised.num_classes
    if classes != wanted:
        have = f"has {classes} classes" if classes else "has no labels"
        raise InputError(
            f"{settings.data.source} {have}, but config.method.supervised.num_classes is {wanted}; "
            + (f"set it to {classes}" if classes else "put the images into one folder a class")
        )


def training_transform(data: Augmentation, image_size: tuple[int, int]) -> Transform:
    """The augmentation of training images."""
    options = {option: getattr(data, setting) for option, setting in TRANSFORM_OPTIONS[data.transform].items()}
    return make_transform(data.transform, image_size=image_size, **options)


def evaluation_transform(data: EvaluationImages, image_size: tuple[int, int]) -> Transform:
    """The crop of test images, and of training images whose features are probed."""
    options = {"crop_fraction": data.crop_fraction} if data.crop_fraction else {}
    return make_transform(data.evaluation_transform, image_size=image_size, **options)


def try_transforms(settings: Settings, source: Source, test: Source) -> None:
    """Puts the first images through their transforms; raises InputError for what would only be met later."""
    data, size = settings.data, image_size(settings)
    training, evaluation = training_transform(data, size), evaluation_transform(data, size)
    first, tested = (Reader(images, data.on_corrupt).read(0)[1]["image"] for images in (source, test))
    training(first, np.random.default_rng(0))
    evaluation(tested)
    if settings.evaluation.probe or settings.evaluation.knn_every:
        evaluation(first)


def make_batches(settings: Settings, source: Source, process_index: int, process_count: int) -> TrainingBatches:
    """Training batches as a function of the step."""
    return TrainingBatches(
        source,
        training_transform(settings.data, image_size(settings)),
        batch_size=settings.optimization.batch_size,
        seed=settings.optimization.seed,
        process_index=process_index,
        process_count=process_count,
        on_corrupt=settings.data.on_corrupt,
        num_threads=settings.efficiency.loader_threads or None,
    )
