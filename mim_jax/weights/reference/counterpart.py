"""Our models as models of Hugging Face's `transformers`: which class, which configuration, which weights."""

import dataclasses
import re
from typing import Any

import jax
import numpy as np

from mim_jax.errors import InputError
from mim_jax.models.swin import SwinConfig
from mim_jax.pretraining.lut import Lut
from mim_jax.pretraining.mae import MaskedAutoencoder
from mim_jax.weights.exporting import export_arrays
from mim_jax.weights.layouts import LAYOUTS
from mim_jax.weights.model import Model
from mim_jax.weights.reference.kinds import KINDS, MAE, MASKED, Kind, method

_HEADS = r"((cls_|distillation_)?classifier|decoder)\..*"


@dataclasses.dataclass(frozen=True)
class Counterpart:
    """What a model is in transformers.

    Attributes:
        name: its class there.
        configuration: its class of configurations there.
        fields: arguments of its configuration.
        arrays: its weights by name.
        whole: whether it has what stands behind the encoder, too.
    """

    name: str
    configuration: str
    fields: dict[str, Any]
    arrays: dict[str, np.ndarray]
    whole: bool


def counterpart(model: Model) -> Counterpart:
    """A model as transformers has it, or its encoder alone where there is no class for the rest.

    Raises InputError if transformers has no such encoder.
    """
    model = _with_float32(_without_teacher(model))
    kinds = ((MAE,) if isinstance(model.objective, MaskedAutoencoder) else ()) + KINDS
    kind = next((kind for kind in kinds if kind.fits(model)), None)
    if kind is None:
        raise InputError("transformers has no encoder like this one, so there is nothing to compare it with")
    task = kind.tasks.get(method(model), "")
    if not task:
        model = dataclasses.replace(model, parameters={"encoder": model.parameters["encoder"]})
    arrays = _arrays(_with_positions(model), kind, task)
    return Counterpart(f"{kind.name}{task or 'Model'}", f"{kind.name}Config", kind.fields(model), arrays, bool(task))


def _without_teacher(model: Model) -> Model:
    """LUT as the autoencoder that it has inside."""
    if not isinstance(model.objective, Lut):
        return model
    parameters = {name: model.parameters[name] for name in ("encoder", "decoder")}
    return dataclasses.replace(model, objective=model.objective.mae, parameters=parameters)


def _with_float32(model: Model) -> Model:
    parameters = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), model.parameters)
    return dataclasses.replace(model, parameters=parameters)


def _with_positions(model: Model) -> Model:
    """Zeros as the positions of class and distillation token where these have none, since they always have there."""
    config, encoder = model.encoder_config, model.parameters["encoder"]
    if isinstance(config, SwinConfig) or "pos_embed" not in encoder:
        return model
    missing = config.class_token + config.distillation_token - config.position_prefix
    table = np.insert(encoder["pos_embed"]["table"], [config.position_prefix] * missing, 0, axis=0)
    return dataclasses.replace(
        model, parameters=model.parameters | {"encoder": encoder | {"pos_embed": {"table": table}}}
    )


def _arrays(model: Model, kind: Kind, task: str) -> dict[str, np.ndarray]:
    layout = LAYOUTS[f"{kind.layout}_masked" if task == MASKED else kind.layout]
    plain = {name.removeprefix(layout.front): array for name, array in export_arrays(model, layout.name).items()}
    front = f"{kind.prefix}." if task else ""
    return {name if re.fullmatch(_HEADS, name) else front + name: array for name, array in plain.items()}
