"""Image sources, transforms and the step-indexed pipeline.

`open_source` opens digits, image folders, list files and TFDS data sets; `make_transform` makes crops;
`TrainingBatches` and `evaluation_batches` join the two. Each name is imported when it is first used, since looking
whether images are there needs neither JAX nor Grain.
"""

import importlib
from typing import Any

_PUBLIC = {
    "ArraySource": "mim_jax.data.arrays",
    "Batch": "mim_jax.data.reading",
    "CorruptImage": "mim_jax.data.record",
    "CorruptRecords": "mim_jax.data.reading",
    "IMAGENET_MEAN": "mim_jax.data.imagenet",
    "IMAGENET_STD": "mim_jax.data.imagenet",
    "Preprocessing": "mim_jax.data.preprocessing",
    "Record": "mim_jax.data.record",
    "Source": "mim_jax.data.record",
    "TrainingBatches": "mim_jax.data.pipeline",
    "Transform": "mim_jax.data.transforms",
    "denormalise": "mim_jax.data.preprocessing",
    "evaluation_batches": "mim_jax.data.pipeline",
    "make_transform": "mim_jax.data.transforms",
    "normalise": "mim_jax.data.preprocessing",
    "open_source": "mim_jax.data.sources",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mim_jax.data' has no attribute '{name}'")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
