"""Image sources, transforms and the step-indexed pipeline.

`open_source` opens digits, image folders, list files and TFDS data sets; `make_transform` makes crops;
`TrainingBatches` and `evaluation_batches` join the two.
"""

from mim_jax.data.arrays import ArraySource
from mim_jax.data.pipeline import TrainingBatches, evaluation_batches
from mim_jax.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, denormalise, normalise
from mim_jax.data.reading import Batch, CorruptRecords
from mim_jax.data.record import CorruptImage, Record, Source
from mim_jax.data.sources import open_source
from mim_jax.data.transforms import Transform, make_transform

__all__ = [
    "ArraySource",
    "Batch",
    "CorruptImage",
    "CorruptRecords",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Preprocessing",
    "Record",
    "Source",
    "TrainingBatches",
    "Transform",
    "denormalise",
    "evaluation_batches",
    "make_transform",
    "normalise",
    "open_source",
]
