"""From settings to the objective of a run and its encoder."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mim_jax.errors import InputError
from mim_jax.experiments.settings import Method, Settings
from mim_jax.models.blocks import Computation
from mim_jax.models.build import AnyEncoderConfig
from mim_jax.models.presets import encoder_config
from mim_jax.pretraining.heads import HeadConfig
from mim_jax.pretraining.lut import Lut
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.pretraining.objective import Objective
from mim_jax.pretraining.simmim import SimMIM
from mim_jax.pretraining.supervised import Supervised

DRAWN_MASKS = 64
"""Masks that are drawn to see whether anything is masked."""

TWO_VIEWS = "lut_two_views"
"""The transform that gives two views of an image."""


def make_encoder_config(settings: Settings) -> AnyEncoderConfig:
    """The encoder that the settings name; raises InputError if its sizes do not fit together."""
    model = settings.model
    changes = {name: getattr(model, name) for name in ("patch_size", "width", "depth", "num_heads", "depths", "window")}
    changes = {name: value for name, value in changes.items() if value}
    if model.stage_heads:
        changes["num_heads"] = model.stage_heads
    if model.drop_path_rate >= 0:
        changes["drop_path_rate"] = model.drop_path_rate
    if settings.method.name == "simmim":
        changes["mask_token"] = True
    return encoder_config(model.name, image_size=model.image_size, channels=model.channels, **(changes | model.options))


def make_objective(settings: Settings) -> Objective:
    """The objective that the settings name; raises InputError if its parts do not fit together."""
    efficiency, encoder = settings.efficiency, make_encoder_config(settings)
    computation = Computation(efficiency.dtype, efficiency.remat, efficiency.scan_blocks)
    _check_views(settings)
    try:
        objective = OBJECTIVES[settings.method.name](settings.method, encoder, computation)
    except ValueError as error:
        raise InputError(f"config.method with the encoder '{settings.model.name}': {error}") from error
    _check_masks(settings.method, objective)
    return objective


def _check_masks(method: Method, objective: Objective) -> None:
    """Raises InputError if the masks of most images are empty, so that nothing is learned."""
    if isinstance(objective, SimMIM):
        masks = objective.draw({"image": np.zeros((DRAWN_MASKS, 1, 1, 1))}, jax.random.key(0))["mask"]
        nothing = np.mean(np.asarray(masks).sum(axis=1) == 0) > 0.5
    else:
        autoencoder = objective.mae if isinstance(objective, Lut) else objective
        nothing = isinstance(autoencoder, MaskedAutoencoder) and autoencoder.kept == autoencoder.vit_config.patches
    if nothing:
        cells = f" of {method.mask_patch} pixels (config.method.mask_patch)" if method.name == "simmim" else ""
        raise InputError(
            f"config.method.mask_ratio is {method.mask_ratio:g}, which masks no patch{cells} by "
            f"'{method.masking}' masking, so nothing would be learned; raise it"
        )


def _mae(method: Method, encoder: AnyEncoderConfig, computation: Computation) -> MaskedAutoencoder:
    decoder = DecoderConfig(method.decoder_width, method.decoder_depth, method.decoder_heads)
    return MaskedAutoencoder(encoder, decoder, method.mask_ratio, method.norm_pix_loss, method.masking, computation)


def _simmim(method: Method, encoder: AnyEncoderConfig, computation: Computation) -> SimMIM:
    return SimMIM(
        encoder, method.mask_ratio, method.mask_patch, method.masking, method.target_window, computation=computation
    )


def _lut(method: Method, encoder: AnyEncoderConfig, computation: Computation) -> Lut:
    lut = method.lut
    heads = [
        HeadConfig(depth, lut.head_width, lut.head_norm, lut.head_activation)
        for depth in (lut.projector_depth, lut.predictor_depth)
    ]
    return Lut(
        _mae(method, encoder, computation),
        *heads,
        reconstruction_weight=lut.reconstruction_weight,
        contextualization_weight=lut.contextualization_weight,
        momentum=lut.momentum,
        one_directional=lut.one_directional,
        independent_masks=lut.independent_masks,
    )


def _supervised(method: Method, encoder: AnyEncoderConfig, computation: Computation) -> Supervised:
    return Supervised(encoder, **dataclasses.asdict(method.supervised), computation=computation)


OBJECTIVES: dict[str, Callable[[Method, AnyEncoderConfig, Computation], Any]] = {
    "mae": _mae,
    "simmim": _simmim,
    "lut": _lut,
    "supervised": _supervised,
}
"""Name of a method to what makes its objective."""


def _check_views(settings: Settings) -> None:
    """Raises InputError if the method wants two views of an image and the transform gives one, or the reverse."""
    method, transform = settings.method.name, settings.data.transform
    if (method == "lut") != (transform == TWO_VIEWS):
        views, wanted = ("two views", f"'{TWO_VIEWS}'") if method == "lut" else ("one view", "another")
        raise InputError(
            f"the method '{method}' wants {views} of every image, but config.data.transform is '{transform}'; "
            f"choose {wanted}"
        )
