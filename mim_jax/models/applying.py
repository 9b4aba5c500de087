"""Modules of Flax as functions of their parameters."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mim_jax.models.build import Parameters
from mim_jax.models.encoder import EncoderOutput
from mim_jax.ops.attention import Observer


def apply(module: nn.Module, parameters: Parameters, *arguments: Any, **options: Any) -> Any:
    """What a module returns with these parameters.

    The module's own `apply` may return changed variables beside it; here none change.
    """
    return module.apply({"params": parameters}, *arguments, **options)


def encode(
    encoder: nn.Module,
    parameters: Parameters,
    images: Float[Array, "b h w c"],
    *,
    keep: Int[Array, "b m"] | None = None,
    mask: Float[Array, "b n"] | None = None,
    observer: Observer | None = None,
    dropout_key: PRNGKeyArray | None = None,
    taps: tuple[int, ...] = (),
) -> EncoderOutput:
    """Encodes normalised images with these parameters; the arguments are those of an `Encoder`."""
    options = {"keep": keep, "mask": mask, "observer": observer, "dropout_key": dropout_key, "taps": taps}
    return apply(encoder, parameters, images, **options)
