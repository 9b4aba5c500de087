"""Named encoders and decoders of the literature."""

import dataclasses
from typing import Any

from mim_jax.errors import InputError, nearest
from mim_jax.models.build import FAMILIES, AnyEncoderConfig
from mim_jax.models.swin_presets import SWIN_ENCODERS
from mim_jax.models.vit_presets import VIT_ENCODERS

ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: ("vision_transformer", fields) for name, fields in VIT_ENCODERS.items()},
    **{name: ("swin_transformer", fields) for name, fields in SWIN_ENCODERS.items()},
}
"""Encoder name to its family and the fields of its configuration."""

SIZE_FIELDS = ("width", "depth", "depths", "num_heads", "patch_size", "version")
"""Fields by which an encoder is told from others at first sight."""

DECODERS: dict[str, dict[str, Any]] = {
    "dec512d8b": {"width": 512, "depth": 8, "num_heads": 16},
}
"""MAE decoder name to its sizes."""

MAE_MODELS: dict[str, tuple[str, str]] = {
    "mae_vit_tiny_patch16": ("vit_tiny_patch16", "dec512d8b"),
    "mae_vit_small_patch16": ("vit_small_patch16", "dec512d8b"),
    "mae_vit_medium_patch16": ("vit_medium_patch16", "dec512d8b"),
    "mae_vit_base_patch16": ("vit_base_patch16", "dec512d8b"),
    "mae_vit_large_patch16": ("vit_large_patch16", "dec512d8b"),
    "mae_vit_huge_patch14": ("vit_huge_patch14", "dec512d8b"),
}
"""MAE model name, as in the original code, to its encoder and decoder."""

SIMMIM_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "simmim_vit_base_patch16": ("simmim_vit_base_patch16", {}),
    "simmim_swin_base_window6_192": ("swin_base_patch4_window6_192", {}),
    "simmim_swin_large_window12_192": ("swin_large_patch4_window12_192", {}),
    "simmim_swinv2_base_window12_192": ("swinv2_base", {"target_window": 47}),
    "simmim_swinv2_large_window12_192": ("swinv2_large", {"target_window": 47}),
}
"""SimMIM model name to its encoder and what it predicts."""


def preset(table: dict[str, Any], name: str, kind: str) -> Any:
    """Looks a name up; raises InputError with the nearest name if there is none."""
    if name in table:
        return table[name]
    raise InputError(f"unknown {kind} '{name}'; {nearest(name, table)}")


def encoder_config(name: str, **changes: Any) -> AnyEncoderConfig:
    """Configuration of a named encoder, with any field changed; raises InputError if they do not fit together."""
    family, fields = preset(ENCODERS, name, "encoder")
    kind = FAMILIES[family][0]
    known = [field.name for field in dataclasses.fields(kind)]
    for key in changes:
        if key not in known:
            raise InputError(f"encoder '{name}' has no field '{key}'; {nearest(key, known)}")
    try:
        return kind(**(fields | changes))
    except ValueError as error:
        raise InputError(f"encoder '{name}': {error}") from error


def nearest_preset(config: AnyEncoderConfig) -> str:
    """Name of the preset with the sizes of an encoder and most of its other fields; "" if none has its sizes."""
    fields = dataclasses.asdict(config)
    sizes = {name for name in SIZE_FIELDS if name in fields}

    def likeness(name: str) -> int:
        family, changes = ENCODERS[name]
        if FAMILIES[family][0] is not type(config):
            return -1
        other = dataclasses.asdict(FAMILIES[family][0](**changes))
        same = {field for field in fields if fields[field] == other[field]}
        return len(same) if sizes <= same else -1

    best = max(ENCODERS, key=likeness)
    return best if likeness(best) > 0 else ""
