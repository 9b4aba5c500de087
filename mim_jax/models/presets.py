"""Named encoders and decoders of the literature."""

import dataclasses
import difflib
from typing import Any

from mim_jax.errors import InputError
from mim_jax.models.vit import VisionTransformerConfig

ENCODERS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16": {"patch_size": (16, 16), "width": 192, "depth": 12, "num_heads": 3},
    "vit_small_patch16": {"patch_size": (16, 16), "width": 384, "depth": 12, "num_heads": 6},
    "vit_base_patch16": {"patch_size": (16, 16), "width": 768, "depth": 12, "num_heads": 12},
    "vit_large_patch16": {"patch_size": (16, 16), "width": 1024, "depth": 24, "num_heads": 16},
    "vit_huge_patch14": {"patch_size": (14, 14), "width": 1280, "depth": 32, "num_heads": 16},
}
"""Encoder name to the fields of its `VisionTransformerConfig`."""

DECODERS: dict[str, dict[str, Any]] = {
    "dec512d8b": {"width": 512, "depth": 8, "num_heads": 16},
}
"""MAE decoder name to its sizes."""

MAE_MODELS: dict[str, tuple[str, str]] = {
    "mae_vit_tiny_patch16": ("vit_tiny_patch16", "dec512d8b"),
    "mae_vit_small_patch16": ("vit_small_patch16", "dec512d8b"),
    "mae_vit_base_patch16": ("vit_base_patch16", "dec512d8b"),
    "mae_vit_large_patch16": ("vit_large_patch16", "dec512d8b"),
    "mae_vit_huge_patch14": ("vit_huge_patch14", "dec512d8b"),
}
"""MAE model name, as in the original code, to its encoder and decoder."""


def preset(table: dict[str, Any], name: str, kind: str) -> Any:
    """Looks a name up; raises InputError with the nearest name if there is none."""
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(table)}"
    raise InputError(f"unknown {kind} '{name}'; {hint}")


def encoder_config(name: str, **changes: Any) -> VisionTransformerConfig:
    """Configuration of a named encoder, with any field changed; raises InputError if they do not fit together."""
    fields = preset(ENCODERS, name, "encoder") | changes
    try:
        return VisionTransformerConfig(**fields)
    except ValueError as error:
        raise InputError(f"encoder '{name}': {error}") from error


def describe(config: VisionTransformerConfig) -> dict[str, Any]:
    """The configuration as plain values for a JSON file."""
    return dataclasses.asdict(config)
