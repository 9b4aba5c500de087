"""Weighted averages of patches."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.probing.pooling.frozen import FrozenTokens, Pooling

TINY = float(jnp.finfo(jnp.float32).tiny)
"""Stands in for a divisor of zero."""


def normalised(weights: Float[Array, "*b n"]) -> Float[Array, "*b n"]:
    """Weights that sum to one over the last axis; weights that are all zero stay zero."""
    return weights / jnp.maximum(weights.sum(axis=-1, keepdims=True), TINY)


def weighted_sum(weights: Float[Array, "b n"], values: Float[Array, "b n d"]) -> Float[Array, "b d"]:
    """Sum over tokens of weight times value, with products in full float32 on accelerators too."""
    return jnp.einsum("bn,bnd->bd", weights, values, precision="highest")


class FixedWeights(Pooling):
    """Sum of the patches by `weights` that nothing trains."""

    def weights(self, frozen: FrozenTokens) -> Float[Array, "b 1 n"]:
        """Weight of every patch."""
        raise NotImplementedError

    def __call__(self, frozen: FrozenTokens, training: bool = False) -> Float[Array, "b d"]:
        """Weighted sum over patches; raises InputError if an observation is missing or is of another grid."""
        return weighted_sum(self.weights(frozen)[:, 0], frozen.patches)
