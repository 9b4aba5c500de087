"""mim_jax: masked image modeling in JAX.

The names below are the public face; each is imported when it is first used, so that `import mim_jax` is cheap.
"""

import importlib
from typing import Any

_PUBLIC = {
    "AttentionStatistics": "mim_jax.ops.attention_statistics",
    "InputError": "mim_jax.errors",
    "MaskedAutoencoder": "mim_jax.pretraining.mae",
    "VisionTransformer": "mim_jax.models.vit",
    "attention_statistics": "mim_jax.ops.attention_statistics",
    "encoder_config": "mim_jax.models.presets",
    "mae_preset": "mim_jax.pretraining.mae",
    "open_source": "mim_jax.data.sources",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'mim_jax' has no attribute '{name}'")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
