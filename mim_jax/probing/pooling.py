"""From tokens to one feature per image, without training."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.errors import InputError


def mean_patch_tokens(tokens: Float[Array, "b n d"], prefix: int) -> Float[Array, "b d"]:
    """Average of the patch tokens in float32; the `prefix` tokens in front are left out."""
    return tokens[:, prefix:].astype(jnp.float32).mean(axis=1)


def class_token(tokens: Float[Array, "b n d"], prefix: int) -> Float[Array, "b d"]:
    """The class token, first of the `prefix` tokens, in float32.

    Raises:
        InputError: if the encoder has no prefix token.
    """
    if prefix < 1:
        raise InputError("this encoder has no class token; use the pooling 'mean_patch_tokens'")
    return tokens[:, 0].astype(jnp.float32)


POOLINGS: dict[str, Callable[..., Array]] = {"mean_patch_tokens": mean_patch_tokens, "class_token": class_token}
"""Poolings by name; each is called as `(tokens, prefix)`."""
