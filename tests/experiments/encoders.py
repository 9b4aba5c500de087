"""Tiny encoders on disk, for experiments that read them."""

import jax
import numpy as np

from mim_jax.data.preprocessing import Preprocessing
from mim_jax.models.build import initial_parameters
from mim_jax.models.presets import encoder_config
from mim_jax.weights.model import Model
from mim_jax.weights.model_directory import save_model

SIZES = {"image_size": (8, 8), "patch_size": (2, 2), "channels": 1, "width": 16, "depth": 2, "num_heads": 2}
SWIN_SIZES = {"image_size": (8, 8), "patch_size": (1, 1), "channels": 1, "width": 8, "depths": (1, 1)}


def tiny_model(name="vit_tiny_patch16", seed=0, **changes):
    """A model of 8x8 digits at random initialisation, with attention sharper than a new one's."""
    sizes = SWIN_SIZES | {"window": 4, "num_heads": (1, 2)} if name.startswith("swin") else SIZES
    config = encoder_config(name, **sizes | changes)
    parameters = initial_parameters(config, jax.random.key(seed))
    parameters = jax.tree.map(lambda leaf: 3 * np.asarray(leaf) if leaf.ndim > 1 else np.asarray(leaf), parameters)
    half = (0.5,) * config.channels
    return Model(config, {"encoder": parameters}, Preprocessing((8, 8), config.channels, half, half), name=name)


def write_encoder(folder, name="vit_tiny_patch16", **changes):
    """The same as a model directory; returns its path."""
    save_model(tiny_model(name, **changes), folder)
    return str(folder)
