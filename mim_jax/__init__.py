"""mim_jax: masked image modeling in JAX.

The names below are the public face; each is imported when it is first used, so that `import mim_jax` is cheap.
"""

import importlib
from typing import Any

_PUBLIC = {
    "Analysis": "mim_jax.analysis.result",
    "AttentionStatistics": "mim_jax.ops.attention_statistics",
    "Classifier": "mim_jax.models.classifier",
    "InputError": "mim_jax.errors",
    "Lut": "mim_jax.pretraining.lut",
    "MaskedAutoencoder": "mim_jax.pretraining.mae",
    "Model": "mim_jax.weights.model",
    "SimMIM": "mim_jax.pretraining.simmim",
    "Supervised": "mim_jax.pretraining.supervised",
    "SwinTransformer": "mim_jax.models.swin",
    "VisionTransformer": "mim_jax.models.vit",
    "analyze": "mim_jax.experiments.notebook",
    "attention_statistics": "mim_jax.ops.attention_statistics",
    "average_mask_distance": "mim_jax.ops.masks",
    "drop_last_blocks": "mim_jax.models.build",
    "encoder_config": "mim_jax.models.presets",
    "initial_parameters": "mim_jax.models.build",
    "load": "mim_jax.weights.loading",
    "lut_preset": "mim_jax.pretraining.lut",
    "mae_preset": "mim_jax.pretraining.mae",
    "make_encoder": "mim_jax.models.build",
    "open_source": "mim_jax.data.sources",
    "save_model": "mim_jax.weights.model_directory",
    "simmim_preset": "mim_jax.pretraining.simmim",
    "take_parameters": "mim_jax.models.build",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mim_jax' has no attribute '{name}'")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
