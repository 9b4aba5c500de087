"""What the arguments of a training, kept beside the weights in its file, state."""

from collections.abc import Mapping
from typing import Any

from mim_jax.models.presets import DECODERS, MAE_MODELS, encoder_config
from mim_jax.weights.files.inert import Opaque
from mim_jax.weights.stated.statements import Statements
from mim_jax.weights.stated.values import COMMON

KEYS = {"norm_pix_loss": "normalise_target", "mask_ratio": "mask_ratio"}
"""Argument of MAE's and LUT's training to what it states."""


def read_training(content: object, arrays: Mapping[str, tuple[int, ...]]) -> Statements:
    """What weights cannot tell; `arrays` are the shapes of the file by our paths."""
    arguments = content.get("args") if isinstance(content, Mapping) else None
    if not isinstance(arguments, Opaque):
        return Statements()
    found = {ours: COMMON[ours].read(arguments.get(theirs)) for theirs, ours in KEYS.items()}
    values: dict[str, Any] = {key: value for key, value in found.items() if value is not None}
    name = arguments.get("model")
    encoder, decoder = MAE_MODELS.get(name, ("", "")) if isinstance(name, str) else ("", "")
    if encoder and arrays["encoder/patch_embed/kernel"][0] == encoder_config(encoder).width:
        values["num_heads"] = encoder_config(encoder).num_heads
        if arrays.get("decoder/embed/kernel", (0,))[0] == DECODERS[decoder]["width"]:
            values["decoder.num_heads"] = DECODERS[decoder]["num_heads"]
    return Statements(values, {key: "the training's arguments" for key in values})
