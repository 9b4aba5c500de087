"""Groups of settings that several commands read; each command has those, and only those, that it reads."""

import dataclasses

TRANSFORM_OPTIONS: dict[str, dict[str, str]] = {
    "none": {},
    "mae_pretrain": {
        "scale": "crop_scale", "interpolation": "interpolation", "flip_probability": "flip_probability",
    },
    "linear_probe": {"scale": "crop_scale", "flip_probability": "flip_probability"},
    "supervised": {
        "scale": "crop_scale", "magnitude": "rand_augment", "flip_probability": "flip_probability",
    },
    "random_crop_padded": {"flip_probability": "flip_probability"},
    "lut_two_views": {"flip_probability": "flip_probability"},
    "evaluation": {},
}  # fmt: skip
"""Transform of training images to the settings that its options come from."""

EVALUATION_TRANSFORMS = ("evaluation", "none")
"""Transforms without chance."""


@dataclasses.dataclass(frozen=True)
class EvaluationImages:
    """Images: where they are, and their evaluation crop.

    `source` is "digits", a folder, a list file, or "tfds:name". A `crop_fraction` of 0 is MAE's rule for test images
    (224 pixels from 256; larger ones whole), 1 takes all that fits.
    """

    source: str = "digits"
    data_dir: str = ""
    test_split: str = "test"
    evaluation_transform: str = "evaluation"
    crop_fraction: float = 0.0
    on_corrupt: str = "skip"


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to an image at random: `crop_scale`, `interpolation`, `rand_augment` (the magnitude, 0 for none) and
    `flip_probability` are of the transforms that have them (`TRANSFORM_OPTIONS`).
    """

    transform: str = "mae_pretrain"
    crop_scale: tuple[float, ...] = (0.2, 1.0)
    interpolation: str = "bicubic"
    rand_augment: float = 9.0
    flip_probability: float = 0.5


@dataclasses.dataclass(frozen=True)
class AugmentedImages(Augmentation, EvaluationImages):
    """Images that are also augmented."""


@dataclasses.dataclass(frozen=True)
class TrainingImages(AugmentedImages):
    """Images to train on and to test on."""

    train_split: str = "train"


@dataclasses.dataclass(frozen=True)
class Computing:
    """How it is computed: never changes the numbers beyond rounding.

    `mesh_data=-1` takes all remaining devices, `loader_threads=0` one thread for every core.
    """

    dtype: str = "float32"
    mesh_data: int = -1
    mesh_fsdp: int = 1
    mesh_tensor: int = 1
    loader_threads: int = 0
