"""From a configuration to an encoder module, its parameters, and smaller models out of larger ones."""

import dataclasses
import math
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import KeyPath
from jaxtyping import Array, PRNGKeyArray

from mim_jax.models.blocks import Computation
from mim_jax.models.stacking import unstack_blocks
from mim_jax.models.swin import SwinConfig, SwinTransformer
from mim_jax.models.swin import drop_last_blocks as drop_swin_blocks
from mim_jax.models.vit import VisionTransformer, VisionTransformerConfig

Parameters = dict[str, Any]
AnyEncoderConfig = VisionTransformerConfig | SwinConfig

FAMILIES: dict[str, tuple[type[AnyEncoderConfig], type[nn.Module]]] = {
    "vision_transformer": (VisionTransformerConfig, VisionTransformer),
    "swin_transformer": (SwinConfig, SwinTransformer),
}
"""Family name to its configuration and its module."""


def family(config: AnyEncoderConfig) -> str:
    """Name of the family that a configuration belongs to."""
    return next(name for name, (kind, _) in FAMILIES.items() if type(config) is kind)


def make_encoder(config: AnyEncoderConfig, computation: Computation = Computation()) -> nn.Module:
    """The encoder's module, an `Encoder`."""
    return FAMILIES[family(config)][1](config, computation)


def initial_parameters(config: AnyEncoderConfig, key: PRNGKeyArray) -> Parameters:
    """Fresh parameters of an encoder, as the original initialises it, in per-block form."""
    # Made stacked, so that one block is compiled whatever the depth.
    encoder = make_encoder(config, Computation(scan_blocks=True))
    images = jnp.zeros((1, *config.image_size, config.channels))
    parameters = unstack_blocks(encoder.init(key, images)["params"])
    return rescale_by_depth(parameters) if getattr(config, "rescale_by_depth", False) else parameters


def rescale_by_depth(parameters: Parameters) -> Parameters:
    """Divides the last kernels of both branches of block i (from 1) by sqrt(2 i) (Bao et al. 2022)."""

    def rescale(path: KeyPath, leaf: Array) -> Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found = re.search(r"blocks/(\d+)/(?:attn/proj|mlp/(?:fc2|w3))/kernel$", name)
        return leaf / math.sqrt(2 * (int(found[1]) + 1)) if found else leaf

    return jax.tree_util.tree_map_with_path(rescale, parameters)


def drop_last_blocks(config: AnyEncoderConfig, count: int) -> AnyEncoderConfig:
    """The encoder without its last `count` blocks, across the border of a stage; the final norm stays.

    Raises ValueError if no block would be left.
    """
    if isinstance(config, SwinConfig):
        return drop_swin_blocks(config, count)
    if not 0 <= count < config.depth:
        raise ValueError(f"cannot drop {count} of {config.depth} blocks; drop at most {config.depth - 1}")
    return dataclasses.replace(config, depth=config.depth - count)


def take_parameters(config: AnyEncoderConfig, larger: Parameters, key: PRNGKeyArray) -> tuple[Parameters, list[str]]:
    """Parameters of an encoder out of a larger model's, and the names of those that had to be made fresh.

    A parameter is taken where name and shape are the same. What the larger model has beyond is left. So the norm
    behind a Swin stage that was not the last is fresh, and so is every block of a `config` that is deeper.
    """
    fresh = initial_parameters(config, key)
    have = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(larger)}
    made: list[str] = []

    def pick(path: KeyPath, leaf: Array) -> Array | np.ndarray:
        taken = have.get(jax.tree_util.keystr(path))
        if taken is not None and taken.shape == leaf.shape:
            return taken
        made.append(jax.tree_util.keystr(path, simple=True, separator="/"))
        return leaf

    return jax.tree_util.tree_map_with_path(pick, fresh), made


def reinitialise_last_blocks(
    config: AnyEncoderConfig, parameters: Parameters, count: int, key: PRNGKeyArray
) -> Parameters:
    """The same encoder with fresh parameters in its last `count` blocks (and where a stage lost all of them)."""
    kept, _ = take_parameters(drop_last_blocks(config, count), parameters, key)
    return take_parameters(config, kept, key)[0]
