"""Random masking by sorting noise, as MAE does it."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mim_jax.ops.broadcasting import broadcast_parameter


class RandomMask(NamedTuple):
    """Which patches of each image are seen.

    Attributes:
        keep: indices of the kept patches in the order of ascending noise, `[b, m]`.
        restore: position of every patch in the shuffled order, `[b, n]`.
        mask: 1 for a removed patch, 0 for a kept one, in the original order, `[b, n]`.
    """

    keep: Int[Array, "b m"]
    restore: Int[Array, "b n"]
    mask: Float[Array, "b n"]


def number_kept(tokens: int, mask_ratio: float) -> int:
    """How many of `tokens` patches stay visible: `int(tokens * (1 - mask_ratio))`, truncated as in MAE."""
    if not 0 <= mask_ratio < 1:
        raise ValueError(f"mask ratio {mask_ratio} is out of range; it must be at least 0 and less than 1")
    kept = int(tokens * (1 - mask_ratio))
    if kept == 0:
        raise ValueError(f"mask ratio {mask_ratio} leaves none of the {tokens} patches visible; lower it")
    return kept


def random_mask(noise: Float[Array, "b n"], mask_ratio: float) -> RandomMask:
    """Keeps the patches with the smallest noise (MAE's `random_masking`).

    A ratio of 0 keeps every patch in its original order. Sorting is by argsort and not by top-k, which needs
    no communication when the batch is sharded.
    """
    tokens = noise.shape[1]
    kept = number_kept(tokens, mask_ratio)
    if kept == tokens:
        noise = jnp.broadcast_to(jnp.arange(tokens, dtype=noise.dtype), noise.shape)
    shuffle = jnp.argsort(noise, axis=1)
    restore = jnp.argsort(shuffle, axis=1)
    return RandomMask(shuffle[:, :kept], restore, (restore >= kept).astype(jnp.float32))


def take_tokens(tokens: Float[Array, "b n d"], indices: Int[Array, "b m"]) -> Float[Array, "b m d"]:
    """Gathers tokens by index, for every image its own."""
    return jnp.take_along_axis(tokens, indices[:, :, None], axis=1)


def restore_tokens(
    visible: Float[Array, "b m d"], mask_token: Float[Array, "d"], restore: Int[Array, "b n"]
) -> Float[Array, "b n d"]:
    """Puts visible tokens back in their places, with the mask token everywhere else."""
    batch, kept, width = visible.shape
    missing = broadcast_parameter(mask_token, (batch, restore.shape[1] - kept, width), visible.dtype)
    return take_tokens(jnp.concatenate([visible, missing], axis=1), restore)


def replace_masked(
    tokens: Float[Array, "b n d"], mask_token: Float[Array, "d"], mask: Float[Array, "b n"]
) -> Float[Array, "b n d"]:
    """Puts the mask token in the place of every token whose mask is 1."""
    masked = mask[:, :, None]
    return (tokens * (1 - masked) + mask_token * masked).astype(tokens.dtype)
