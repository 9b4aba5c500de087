"""A folder like a fresh clone, with small images and checkpoints where the documentation takes them for granted."""

import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from mim_jax.data.preprocessing import Preprocessing
from mim_jax.models.build import initial_parameters
from mim_jax.models.presets import encoder_config
from mim_jax.pretraining.simmim import SimMIM
from mim_jax.pretraining.supervised import Supervised
from mim_jax.weights.exporting import export_arrays
from mim_jax.weights.model import Model
from tests.commands.shown import ROOT
from tests.weights.writing import state_dict, tensor, write_zip

FOLDERS = {
    "imagenet": ({"train": 10, "val": 4}, 4, (80, 64)),
    "photos": ({"train": 10, "val": 4}, 2, (64, 80)),
    "cifar10": ({"train": 8, "test": 3}, 10, (32, 32)),
    "imagenette224": ({"train": 4, "val": 2}, 10, (224, 224)),
}
"""Folder of images below data/ to images a class of each split, number of classes, size in pixels."""

FILES = {
    "mae_pretrain_vit_base.pth": ("mae", "vit_base_patch16", {"depth": 2}),
    "dino_vitbase16_pretrain.pth": ("timm_vit", "dino_vit_base_patch16", {"depth": 2}),
    "dinov2_vitb14_pretrain.pth": ("dinov2", "dinov2_vit_base_patch14", {"depth": 2, "image_size": (56, 56)}),
    "deit_base_patch16_224.pth": ("timm_vit", "deit_base_patch16", {"depth": 2}),
    "simmim_pretrain__vit_base__img224__800ep.pth": ("simmim_vit", "simmim_vit_base_patch16", {"depth": 8}),
}
"""Name of a published checkpoint to its layout, its preset, and in what the one made here is smaller."""

OBJECTIVES = {
    "deit_base_patch16": lambda config: Supervised(config, 4, "class_token"),
    "simmim_vit_base_patch16": SimMIM,
}
"""Preset to what stands behind the encoder in the file."""

SMALLER = {"image_size": (64, 64), "width": 192, "num_heads": 3}


def make_stage(folder: Path) -> Path:
    """A copy of what the project tracks, with data and checkpoints beside it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    random = np.random.default_rng(0)
    for name, (splits, classes, size) in FOLDERS.items():
        for split, count in splits.items():
            for label in range(classes):
                _write_images(folder / "data" / name / split / f"class_{label}", count, size, label, random)
    for name, (layout, preset, changes) in FILES.items():
        _write_checkpoint(folder / name, layout, preset, SMALLER | changes)
    return folder


def _write_images(folder: Path, count: int, size: tuple[int, int], label: int, random: np.random.Generator) -> None:
    """Noise over a brightness that tells the class."""
    folder.mkdir(parents=True)
    for number in range(count):
        noise = random.integers(0, 128, (*size, 3)) + 12 * label
        Image.fromarray(noise.astype(np.uint8)).save(folder / f"{number:04}.jpg")


def _write_checkpoint(path: Path, layout: str, preset: str, changes: dict) -> None:
    config = encoder_config(preset, **changes)
    objective = OBJECTIVES[preset](config) if preset in OBJECTIVES else None
    key = jax.random.key(0)
    parameters = objective.init(key) if objective else {"encoder": initial_parameters(config, key)}
    half = (0.5,) * config.channels
    model = Model(config, parameters, Preprocessing(config.image_size, config.channels, half, half), objective)
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in export_arrays(model, layout).items()}
    tensors = {
        name: tensor(str(number), array.size, 0, array.shape, tuple(stride // 4 for stride in array.strides))
        for number, (name, array) in enumerate(arrays.items())
    }
    write_zip(path, state_dict(tensors), {str(n): array.tobytes() for n, array in enumerate(arrays.values())})
