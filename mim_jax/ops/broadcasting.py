"""Trained vectors that stand in many places."""

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def broadcast_parameter(
    parameter: Float[Array, "*own"], shape: tuple[int, ...], dtype: DTypeLike
) -> Float[Array, "*places"]:
    """A float32 parameter in all places of `shape`, in `dtype`.

    Its gradient is the sum over all places. It is broadcast first and cast then, so that the sum is in float32, and so
    is what devices exchange of it; cast first, thousands of bfloat16 numbers would be added up in bfloat16, which loses
    a quarter of the sum.
    """
    return jnp.broadcast_to(parameter, shape).astype(dtype)
