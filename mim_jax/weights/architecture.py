"""From what a checkpoint shows to an encoder's configuration, its objective and its preprocessing."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from mim_jax.data.preprocessing import Preprocessing
from mim_jax.errors import InputError, nearest
from mim_jax.models.build import FAMILIES, AnyEncoderConfig
from mim_jax.models.presets import DECODERS, MAE_MODELS, encoder_config
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.pretraining.objective import Objective
from mim_jax.pretraining.simmim import SimMIM
from mim_jax.pretraining.supervised import Supervised
from mim_jax.weights.evidence import Evidence, ratio
from mim_jax.weights.files.inert import Opaque
from mim_jax.weights.files.tensors import shown
from mim_jax.weights.layouts import Layout
from mim_jax.weights.statements import check_seen, check_value
from mim_jax.weights.swin_architecture import swin_transformer_fields
from mim_jax.weights.vit_architecture import vision_transformer_fields

FIELDS: dict[str, Callable[[Evidence], dict[str, Any]]] = {
    "vision_transformer": vision_transformer_fields,
    "swin_transformer": swin_transformer_fields,
}
"""Family to what finds its fields."""

OTHER_KEYS = (
    "readout", "mean", "std", "mask_ratio", "mask_patch", "normalise_target",
    "decoder.num_heads", "decoder.norm_epsilon",
)  # fmt: skip
"""What can be stated besides the fields of an encoder."""

HUGGING_FACE_KEYS = {
    "num_attention_heads": "num_heads",
    "num_heads": "num_heads",
    "image_size": "image_size",
    "layer_norm_eps": "norm_epsilon",
    "window_size": "window",
    "pretrained_window_sizes": "pretrained_windows",
    "drop_path_rate": "drop_path_rate",
    "decoder_num_attention_heads": "decoder.num_heads",
    "norm_pix_loss": "normalise_target",
    "mask_ratio": "mask_ratio",
}
"""Key of Hugging Face's `config.json` to what it states."""

TRAINING_KEYS = {"norm_pix_loss": "normalise_target", "mask_ratio": "mask_ratio"}
"""Argument of MAE's and LUT's training, which their files keep, to what it states."""

USUAL_DECODER_HEADS = {512: 16}
"""Width of MAE's decoder to its heads."""

LAYER_SCALE = 1e-5  # what factors are taken to have started with, where the layout does not say

MIM_CELLS = 4  # SimMIM's cells are of 32 pixels unless the image then has fewer than so many


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What a checkpoint holds."""

    encoder: AnyEncoderConfig
    objective: Objective | None
    preprocessing: Preprocessing


def from_hugging_face(config: Mapping[str, Any] | None, family: str) -> dict[str, Any]:
    """What a `config.json` states that weights cannot tell."""
    if not config:
        return {}
    stated = {ours: config[theirs] for theirs, ours in HUGGING_FACE_KEYS.items() if config.get(theirs) is not None}
    if stated.get("pretrained_windows") and not any(_as_tuple(stated["pretrained_windows"])):
        stated["pretrained_windows"] = ()  # zeros, of which there may be more than stages
    return _checked(stated, family, "config.json")


def from_training_arguments(content: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """What the arguments of the training, kept beside the weights, state that weights cannot tell."""
    arguments = content.get("args") if isinstance(content, Mapping) else None
    if not isinstance(arguments, Opaque):
        return {}
    stated = {ours: arguments.get(theirs) for theirs, ours in TRAINING_KEYS.items()}
    stated = {key: value for key, value in stated.items() if type(value) in (bool, float)}
    name = arguments.get("model")
    encoder, decoder = MAE_MODELS.get(name, ("", "")) if isinstance(name, str) else ("", "")
    if encoder and arrays["encoder/patch_embed/kernel"][0] == encoder_config(encoder).width:
        stated["num_heads"] = encoder_config(encoder).num_heads
        if arrays.get("decoder/embed/kernel", (0,))[0] == DECODERS[decoder]["width"]:
            stated["decoder.num_heads"] = DECODERS[decoder]["num_heads"]
    return stated


def checked_statements(stated: Mapping[str, Any], family: str) -> dict[str, Any]:
    """What a user stated, in the types of the configuration; raises InputError for a key that there is not."""
    known = [*_types(family), *OTHER_KEYS]
    for key in stated:
        if key not in known:
            raise InputError(f"there is no '{key}' to set; {nearest(key, known)}")
    return _checked(stated, family, "--set")


def _types(family: str) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(FAMILIES[family][0])}


def _checked(stated: Mapping[str, Any], family: str, where: str) -> dict[str, Any]:
    """Values as tuples where the configuration has tuples, pairs from single numbers."""
    defaults = _types(family)
    values = {}
    for key, value in stated.items():
        if key not in defaults and key not in OTHER_KEYS:
            continue
        default = defaults.get(key)
        if key in ("image_size", "patch_size") and isinstance(value, int):
            value = (value, value)
        elif isinstance(value, (list, tuple)) or key in ("mean", "std"):
            value = _as_tuple(value)
        elif isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if default is not None and key != "window" and type(value) is not type(default):
            raise InputError(f"{key} of {where} must be like {default!r}, not {shown(repr(value))}")
        check_value(key, value, family, where)
        values[key] = value
    return values


def _as_tuple(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def work_out(layout: Layout, evidence: Evidence, preprocessor: Mapping[str, Any] | None) -> Architecture:
    """The architecture behind a checkpoint; what is stated wins over what is seen, and that over the layout's own.

    Raises InputError where something must be stated, or where it does not fit together.
    """
    fields = layout.fields | FIELDS[layout.family](evidence)
    known = _types(layout.family)
    check_seen(evidence.given, fields)
    if evidence.has_layer_scale and not fields.get("layer_scale"):
        fields["layer_scale"] = LAYER_SCALE
    fields |= {key: value for key, value in evidence.given.items() if key in known}
    if fields.get("channels") != 3 and "channels" not in evidence.given:
        _, (name,) = layout.sources_of("encoder/patch_embed/kernel")[0]
        raise InputError(
            f"{name} takes images of {fields.get('channels')} channel(s), not 3; if that is right, --set "
            f"channels={fields.get('channels')}"
        )
    try:
        encoder = FAMILIES[layout.family][0](**fields)
        objective = _OBJECTIVES[layout.method](layout, evidence, encoder) if layout.method else None
        return Architecture(encoder, objective, _preprocessing(layout, evidence, encoder, preprocessor or {}))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"the architecture that its weights show cannot be: {error}") from error


def _preprocessing(
    layout: Layout, evidence: Evidence, encoder: AnyEncoderConfig, preprocessor: Mapping[str, Any]
) -> Preprocessing:
    channels = encoder.channels
    mean = evidence.given.get("mean") or preprocessor.get("image_mean") or layout.mean
    std = evidence.given.get("std") or preprocessor.get("image_std") or layout.std
    if channels != len(mean):
        mean, std = (0.5,) * channels, (0.5,) * channels
    return Preprocessing(encoder.image_size, channels, tuple(map(float, mean)), tuple(map(float, std)))


def _mae(layout: Layout, evidence: Evidence, encoder: AnyEncoderConfig) -> Objective:
    width = evidence.shape("decoder/embed/kernel")[0]
    decoder = DecoderConfig(
        width,
        evidence.count(r"decoder/blocks/(\d+)/"),
        evidence.heads(width, "decoder.num_heads", USUAL_DECODER_HEADS),
        ratio(evidence.shape("decoder/blocks/0/mlp/fc1/kernel")[0], width),
        evidence.given.get("decoder.norm_epsilon", encoder.norm_epsilon),
    )
    options = {key: evidence.given[key] for key in ("mask_ratio", "normalise_target") if key in evidence.given}
    if "normalise_target" not in options:
        evidence.assumed.append("normalise_target=False; if its target was normalised, --set normalise_target=True")
    return MaskedAutoencoder(encoder, decoder, **options)


def _simmim(layout: Layout, evidence: Evidence, encoder: AnyEncoderConfig) -> Objective:
    options = {key: evidence.given[key] for key in ("mask_ratio", "mask_patch") if key in evidence.given}
    rows, columns = (side // 32 for side in encoder.image_size)
    if "mask_patch" not in options and rows * columns < MIM_CELLS:
        options["mask_patch"] = encoder.output_stride[0]
    return SimMIM(encoder, **options)


def _supervised(layout: Layout, evidence: Evidence, encoder: AnyEncoderConfig) -> Objective | None:
    if "head/kernel" not in evidence:
        return None
    classes = evidence.shape("head/kernel")[0]
    return Supervised(encoder, classes, _readout(layout, evidence, encoder), standardise="head_norm/mean" in evidence)


def _readout(layout: Layout, evidence: Evidence, encoder: AnyEncoderConfig) -> str:
    if "readout" in evidence.given:
        return str(evidence.given["readout"])
    if "head_dist/kernel" in evidence:
        return "distilled"
    if "fc_norm/scale" in evidence:
        return "mean_then_norm"
    return layout.readout or ("class_token" if encoder.prefix else "mean")


_OBJECTIVES = {"mae": _mae, "simmim": _simmim, "supervised": _supervised}
