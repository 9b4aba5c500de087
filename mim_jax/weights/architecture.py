"""From what a checkpoint shows to an encoder's configuration, its objective and its preprocessing."""

import dataclasses
from collections.abc import Callable
from typing import Any

from mim_jax.data.preprocessing import Preprocessing
from mim_jax.errors import InputError
from mim_jax.models.build import FAMILIES, AnyEncoderConfig
from mim_jax.models.classifier import READOUTS
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.pretraining.objective import Objective
from mim_jax.pretraining.simmim import SimMIM, fitting_mask_patch
from mim_jax.pretraining.supervised import Supervised
from mim_jax.weights.evidence import Evidence, ratio
from mim_jax.weights.layouts import Layout
from mim_jax.weights.stated.values import written
from mim_jax.weights.swin_architecture import swin_transformer_fields
from mim_jax.weights.vit_architecture import vision_transformer_fields

FIELDS: dict[str, Callable[[Evidence], dict[str, Any]]] = {
    "vision_transformer": vision_transformer_fields,
    "swin_transformer": swin_transformer_fields,
}
"""Family to what finds its fields."""

SHOWN = (
    "version", "width", "channels", "patch_size", "depth", "depths", "class_token", "distillation_token", "registers",
    "query_key_norm", "mlp", "relative_position_bias", "final_norm", "mask_token",
)  # fmt: skip
"""Fields that arrays tell for sure: whoever states them otherwise speaks of another file."""

USUAL_DECODER_HEADS = {512: 16}
"""Width of MAE's decoder to its heads."""

MOST_PATCHES = 1 << 18  # of an image

LAYER_SCALE = 1e-5  # what factors are taken to have started with, where the layout does not say

FINER_READOUTS = {"mean_then_norm": "mean", "distilled": "class_token"}
"""How a classifier reads where its arrays show more than the usual name for it tells."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What a checkpoint holds."""

    encoder: AnyEncoderConfig
    objective: Objective | None
    preprocessing: Preprocessing


def work_out(layout: Layout, evidence: Evidence) -> Architecture:
    """The architecture behind a checkpoint; what is stated wins over what is seen, and that over the layout's own.

    Raises InputError where something must be stated, or where what is stated and what is seen do not fit together.
    """
    fields = layout.fields | FIELDS[layout.family](evidence)
    _check_statements(layout, evidence, fields)
    if evidence.has_layer_scale and not fields.get("layer_scale"):
        fields["layer_scale"] = LAYER_SCALE
    fields |= {key: value for key, value in evidence.given.items() if key in _names(layout.family)}
    if fields["channels"] != 3 and "channels" not in evidence.given:
        _, (name,) = layout.sources_of("encoder/patch_embed/kernel")[0]
        raise InputError(
            f"{name} takes images of {fields['channels']} channel(s), not 3; if that is right, --set "
            f"channels={fields['channels']}"
        )
    try:
        encoder = FAMILIES[layout.family][0](**fields)
        _check_patches(encoder)
        objective = _OBJECTIVES[layout.method](layout, evidence, encoder) if layout.method else None
        return Architecture(encoder, objective, _preprocessing(layout, evidence, encoder))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"the architecture that its weights show cannot be: {error}") from error


def _names(family: str) -> list[str]:
    return [field.name for field in dataclasses.fields(FAMILIES[family][0])]


def _check_patches(encoder: AnyEncoderConfig) -> None:
    (rows, columns), (height, width) = encoder.grid, encoder.image_size
    if rows * columns > MOST_PATCHES:
        raise InputError(
            f"image_size={height},{width} makes {rows}x{columns} patches, and at most {MOST_PATCHES} are possible; "
            "state another with --set image_size=HEIGHT,WIDTH"
        )


def _check_statements(layout: Layout, evidence: Evidence, seen: dict[str, Any]) -> None:
    """Raises InputError where a field that arrays show is stated otherwise."""
    given = evidence.given
    for key in SHOWN + (("num_heads",) if layout.family == "swin_transformer" else ()):
        if key in given and key in seen and given[key] != seen[key]:
            lacks = _first_of_block(layout, seen[key]) if key == "depth" and given[key] > seen[key] else ""
            _contradict(evidence, key, f"{written(seen[key])}{lacks}")
    if "mlp_ratio" in given and int(seen["width"] * given["mlp_ratio"]) != int(seen["width"] * seen["mlp_ratio"]):
        _contradict(evidence, "mlp_ratio", written(seen["mlp_ratio"]))
    if "qkv_bias" in given and (given["qkv_bias"] == "none") != (seen["qkv_bias"] == "none"):
        _contradict(evidence, "qkv_bias", written(seen["qkv_bias"]))
    if "layer_scale" in given and bool(given["layer_scale"]) != evidence.has_layer_scale:
        _contradict(evidence, "layer_scale", f"{'' if evidence.has_layer_scale else 'no '}factors on its branches")
    if "position" in given and (given["position"] == "none") != (seen["position"] == "none"):
        _contradict(evidence, "position", f"{'no' if seen['position'] == 'none' else 'a'} table of positions")


def _first_of_block(layout: Layout, block: int) -> str:
    """In brackets, that the first array of a block is not there."""
    _, names = layout.sources_of(f"encoder/blocks/{block}/norm1/scale")[0]
    return f" (it lacks {names[0]})"


def _contradict(evidence: Evidence, key: str, shown: str) -> None:
    source = evidence.source(key)
    remedy = "leave it out" if source.startswith("--set") else f"that belongs to other weights, or else --set {key}="
    raise InputError(f"{key} is {written(evidence.given[key])} by {source}, but its arrays show {shown}; {remedy}")


def _preprocessing(layout: Layout, evidence: Evidence, encoder: AnyEncoderConfig) -> Preprocessing:
    """Mean and deviation as stated, else by the layout's convention, which is noted with the encoder's."""
    channels = encoder.channels
    usual = {"mean": layout.mean, "std": layout.std}
    if channels != len(layout.mean):
        usual = {"mean": (0.5,) * channels, "std": (0.5,) * channels}
    values = {}
    for key in usual:
        value = evidence.given.get(key, usual[key])
        values[key] = value * channels if len(value) == 1 else value
        if len(values[key]) != channels:
            raise InputError(
                f"{key} has {len(value)} number(s) by {evidence.source(key)}, but its images have {channels} "
                f"channel(s); give one for every channel with --set {key}="
            )
    _note_conventions(layout, evidence, encoder, values)
    return Preprocessing(encoder.image_size, channels, values["mean"], values["std"])


def _note_conventions(
    layout: Layout, evidence: Evidence, encoder: AnyEncoderConfig, values: dict[str, tuple[float, ...]]
) -> None:
    """One sentence with what neither arrays nor statements tell."""
    assumed = {"norm_epsilon": encoder.norm_epsilon, "activation": encoder.activation} | values
    if getattr(encoder, "mlp", "gelu") == "swiglu":
        del assumed["activation"]
    told = [f"{key}={written(value)}" for key, value in assumed.items() if key not in evidence.given]
    if told:
        evidence.assumed.append(f"{', '.join(told)}, as usual for the layout '{layout.name}'; if not, --set KEY=VALUE")


def _mae(layout: Layout, evidence: Evidence, encoder: AnyEncoderConfig) -> Objective:
    width = evidence.shape("decoder/embed/kernel")[0]
    decoder = DecoderConfig(
        width,
        evidence.count(r"decoder/blocks/(\d+)/"),
        evidence.heads(width, "decoder.num_heads", USUAL_DECODER_HEADS),
        ratio(evidence.shape("decoder/blocks/0/mlp/fc1/kernel")[0], width),
        evidence.given.get("decoder.norm_epsilon", encoder.norm_epsilon),
        evidence.given.get("decoder.activation", encoder.activation),
    )
    options = {key: evidence.given[key] for key in ("mask_ratio", "normalise_target") if key in evidence.given}
    if "normalise_target" not in options:
        evidence.assumed.append("normalise_target=False; if its target was normalised, --set normalise_target=True")
    return MaskedAutoencoder(encoder, decoder, **options)


def _simmim(layout: Layout, evidence: Evidence, encoder: AnyEncoderConfig) -> Objective:
    options = {key: evidence.given[key] for key in ("mask_ratio", "mask_patch") if key in evidence.given}
    if "mask_patch" not in options:
        options["mask_patch"] = fitting_mask_patch(encoder)
        evidence.assumed.append(
            f"mask_patch={options['mask_patch']}, which only pre-training needs; if not, --set mask_patch=PIXELS"
        )
    return SimMIM(encoder, **options)


def _supervised(layout: Layout, evidence: Evidence, encoder: AnyEncoderConfig) -> Objective | None:
    if "head/kernel" not in evidence:
        return None
    classes = evidence.shape("head/kernel")[0]
    return Supervised(encoder, classes, _readout(layout, evidence, encoder), standardise="head_norm/mean" in evidence)


def _readout(layout: Layout, evidence: Evidence, encoder: AnyEncoderConfig) -> str:
    finer = {"mean_then_norm": "fc_norm/scale" in evidence, "distilled": "head_dist/kernel" in evidence}
    seen = next((name for name, there in finer.items() if there), "")
    stated = evidence.given.get("readout", "")
    if stated and stated != FINER_READOUTS.get(seen):
        if stated not in READOUTS:
            raise InputError(
                f"{evidence.source('readout')} is '{stated}', by which no classifier here reads its encoder; known are "
                f"{', '.join(READOUTS)}"
            )
        return stated
    return seen or layout.readout or ("class_token" if encoder.prefix else "mean")


_OBJECTIVES = {"mae": _mae, "simmim": _simmim, "supervised": _supervised}
