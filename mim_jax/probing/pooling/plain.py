"""Poolings of the tokens alone: class token, means, maxima, the middle of the image."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.errors import InputError
from mim_jax.probing.pooling.centre import SIZES, Size, central_patches
from mim_jax.probing.pooling.frozen import FrozenTokens, Pooling

SMALLEST = 1e-6
"""What a generalised mean takes for every smaller number."""


def mean_patch_tokens(tokens: Float[Array, "b n d"], prefix: int) -> Float[Array, "b d"]:
    """Average of the patch tokens in float32; the `prefix` tokens in front are left out."""
    return tokens[:, prefix:].astype(jnp.float32).mean(axis=1)


class ClassToken(Pooling):
    """The class token, first of the prefix tokens."""

    def __call__(self, frozen: FrozenTokens, training: bool = False) -> Float[Array, "b d"]:
        """The class token; raises InputError if there is none."""
        return frozen.class_token


class Mean(Pooling):
    """Mean of the patches, prefix tokens left out ("pos" or "GAP" elsewhere)."""

    def __call__(self, frozen: FrozenTokens, training: bool = False) -> Float[Array, "b d"]:
        """Mean over patches."""
        return mean_patch_tokens(frozen.tokens, frozen.prefix)


class Both(Pooling):
    """Class token and behind it, as further features, the mean of the patches."""

    def __call__(self, frozen: FrozenTokens, training: bool = False) -> Float[Array, "b e"]:
        """Twice as wide as a token; raises InputError if there is no class token."""
        return jnp.concatenate([frozen.class_token, mean_patch_tokens(frozen.tokens, frozen.prefix)], axis=-1)


class Max(Pooling):
    """The largest value that a feature has in any patch."""

    def __call__(self, frozen: FrozenTokens, training: bool = False) -> Float[Array, "b d"]:
        """Maximum over patches."""
        return frozen.patches.max(axis=1)


class GeneralizedMean(Pooling):
    """`mean(x^p)^(1/p)` over the patches with a trained p (GeM, Radenovic et al. 2019).

    It is the mean for p = 1 and approaches the maximum as p grows. Numbers below 1e-6, and so all negative ones, count
    as 1e-6.

    Attributes:
        start: p before training, positive.
        per_feature: every feature has a p of its own; otherwise there is one for all.

    Raises:
        InputError: if `start` is not positive.
    """

    start: float = 3.0
    per_feature: bool = False

    def __post_init__(self) -> None:
        if self.start <= 0:
            raise InputError(f"the exponent of 'gem' must start above 0, not with {self.start}")
        super().__post_init__()

    @nn.compact
    def __call__(self, frozen: FrozenTokens, training: bool = False) -> Float[Array, "b d"]:
        """Generalised mean over patches."""
        patches = frozen.patches
        shape = patches.shape[-1:] if self.per_feature else ()
        power = self.param("power", nn.initializers.constant(self.start), shape)
        # In logarithms, because 1e-6 to the eighth is already zero in float32.
        logs = jnp.log(jnp.maximum(patches, SMALLEST))
        return jnp.exp((jax.nn.logsumexp(power * logs, axis=1) - jnp.log(patches.shape[1])) / power)


class CentralPatches(Pooling):
    """Mean of the central `size` x `size` patches ("Beyond [cls]", Przewiezlikowski et al. 2024).

    Attributes:
        size: rows and columns of the square; `centre.central_patches` says where it lies.
    """

    size: Size = 1

    def __call__(self, frozen: FrozenTokens, training: bool = False) -> Float[Array, "b d"]:
        """Mean over the central patches; raises InputError if the grid is smaller."""
        return frozen.patches[:, central_patches(frozen.grid, self.size)].mean(axis=1)


POOLINGS = {
    "cls": ClassToken,
    "mean": Mean,
    "both": Both,
    "max": Max,
    "gem": GeneralizedMean,
    **{f"cp{size}": functools.partial(CentralPatches, size=size) for size in SIZES},
}
"""Poolings of this file by name."""
