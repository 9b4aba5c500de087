"""Image sources, transforms and the step-indexed pipeline.

`open_source` opens digits, image folders, list files and TFDS data sets; `make_transform` makes crops;
`TrainingBatches` and `evaluation_batches` join the two. Each name is imported when it is first used, so that data can
be opened and checked without JAX.
"""

import importlib

_PUBLIC = {
    "ArraySource": "arrays",
    "Batch": "reading",
    "CorruptImage": "record",
    "CorruptRecords": "reading",
    "IMAGENET_MEAN": "preprocessing",
    "IMAGENET_STD": "preprocessing",
    "Preprocessing": "preprocessing",
    "Record": "record",
    "Source": "record",
    "TrainingBatches": "pipeline",
    "Transform": "transforms",
    "UnreadableImage": "record",
    "UnsupportedImage": "record",
    "check_source": "sources",
    "denormalise": "preprocessing",
    "evaluation_batches": "pipeline",
    "make_transform": "transforms",
    "normalise": "preprocessing",
    "open_source": "sources",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mim_jax.data' has no attribute '{name}'")
    return getattr(importlib.import_module(f"mim_jax.data.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
