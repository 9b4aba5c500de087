"""TokenCut (Wang et al. 2022) as a pooling: a normalised cut of the patches into object and rest.

The patches are a graph. Two of them are joined by 1 where the cosine similarity of their keys (in the attention of the
block that is pooled) is above a threshold, and by 1e-5 elsewhere. With E these edges and D the diagonal of their sums,
v is the eigenvector of (D - E) v = lambda D v with the second smallest eigenvalue. Patches where v is at its mean or
above are one side, all others the other one. The foreground is the side of the patch with the largest absolute value;
v takes the sign with which it is large there.

"Beyond [cls]" (Przewiezlikowski et al. 2024) lists eight poolings by it without any code or definition. These are ours:

=============  ==========================================================================================
tcut-bip       mean of the foreground patches
tcut-eig       all patches, weighted by v - min(v)
tcut-eigbip    the foreground patches, weighted by v - min(v), the minimum being that of all patches
tcut-eigsft    all patches, weighted by softmax(z / temperature), z being v at zero mean and unit variance
tcut-...-f     the same flipped: foreground and rest exchanged, and -v in place of v
=============  ==========================================================================================

Weights always sum to one.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mim_jax.errors import InputError
from mim_jax.probing.pooling.frozen import FrozenTokens
from mim_jax.probing.pooling.weighting import TINY, FixedWeights, normalised

WEAK = 1e-5
"""What joins patches that are not similar."""


def similarity_graph(features: Float[Array, "b n d"], threshold: float) -> Float[Array, "b n n"]:
    """Edges between patches: 1 where the cosine similarity is above the threshold, 1e-5 elsewhere."""
    length = jnp.linalg.norm(features, axis=-1, keepdims=True)
    directions = features / jnp.maximum(length, TINY)
    similarity = jnp.einsum("bnd,bmd->bnm", directions, directions, precision="highest")
    return jnp.where(similarity > threshold, 1.0, WEAK)


def second_eigenvector(edges: Float[Array, "b n n"]) -> Float[Array, "b n"]:
    """Eigenvector of (D - E, D) with the second smallest eigenvalue, of arbitrary sign and v^T D v = 1."""
    root = jnp.sqrt(edges.sum(axis=-1))
    laplacian = jnp.eye(edges.shape[-1]) - edges / (root[:, :, None] * root[:, None, :])
    first = root / jnp.linalg.norm(root, axis=-1, keepdims=True)
    # The smallest eigenvalue, 0, belongs to a vector that is known; it is moved to the other end, where it cannot mix
    # with the second smallest, which for well separated parts is about 1e-5.
    vectors = jnp.linalg.eigh(laplacian + 2 * first[:, :, None] * first[:, None, :])[1]
    return vectors[..., 0] / root


def point_at_object(vector: Float[Array, "b n"]) -> Float[Array, "b n"]:
    """The eigenvector with the sign that makes its largest absolute value positive."""
    seed = jnp.abs(vector).argmax(axis=-1, keepdims=True)
    return vector * jnp.sign(jnp.take_along_axis(vector, seed, axis=-1))


class TokenCut(FixedWeights):
    """What the TokenCut poolings share.

    Attributes:
        features: what is compared, "keys" of the layer or its "tokens".
        threshold: cosine similarity above which patches are joined.
        flipped: pools the rest of the image instead of the object.
    """

    features: Literal["keys", "tokens"] = "keys"
    threshold: float = 0.2
    flipped: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The keys, unless tokens are compared."""
        return ("keys",) if self.features == "keys" else ()

    def eigenvector(self, frozen: FrozenTokens) -> Float[Array, "b n"]:
        """One number a patch, positive where the object is."""
        features = frozen.observation("keys").astype(jnp.float32) if self.needs else frozen.patches
        return point_at_object(second_eigenvector(similarity_graph(features, self.threshold)))

    def weights(self, frozen: FrozenTokens) -> Float[Array, "b 1 n"]:
        """Weight of every patch; sums to one."""
        vector = self.eigenvector(frozen)
        foreground = vector >= vector.mean(axis=-1, keepdims=True)
        sides = (-vector, ~foreground) if self.flipped else (vector, foreground)
        return normalised(self.shares(*sides))[:, None]

    def shares(self, vector: Float[Array, "b n"], foreground: Bool[Array, "b n"]) -> Float[Array, "b n"]:
        """Weights up to a factor."""
        raise NotImplementedError


class Bipartition(TokenCut):
    """Mean of the patches of the foreground ("tcut-bip")."""

    def shares(self, vector: Float[Array, "b n"], foreground: Bool[Array, "b n"]) -> Float[Array, "b n"]:
        """1 in the foreground."""
        return foreground.astype(jnp.float32)


class Eigenvector(TokenCut):
    """Average of all patches by `v - min(v)` ("tcut-eig")."""

    def shares(self, vector: Float[Array, "b n"], foreground: Bool[Array, "b n"]) -> Float[Array, "b n"]:
        """The eigenvector above its minimum."""
        return vector - vector.min(axis=-1, keepdims=True)


class ForegroundEigenvector(Eigenvector):
    """Average of the patches of the foreground by `v - min(v)` ("tcut-eigbip")."""

    def shares(self, vector: Float[Array, "b n"], foreground: Bool[Array, "b n"]) -> Float[Array, "b n"]:
        """The eigenvector above its minimum in the foreground, else 0."""
        return jnp.where(foreground, super().shares(vector, foreground), 0)


class SoftEigenvector(TokenCut):
    """Average of all patches by a softmax of the standardised eigenvector ("tcut-eigsft").

    Attributes:
        temperature: divides the standardised eigenvector; small ones pick the most salient patch, large ones average.

    Raises:
        InputError: if the temperature is not positive.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise InputError(f"the temperature of 'tcut-eigsft' must be above 0, not {self.temperature}")
        super().__post_init__()

    def shares(self, vector: Float[Array, "b n"], foreground: Bool[Array, "b n"]) -> Float[Array, "b n"]:
        """Softmax over patches."""
        centred = vector - vector.mean(axis=-1, keepdims=True)
        deviation = jnp.sqrt((centred**2).mean(axis=-1, keepdims=True))
        return jax.nn.softmax(centred / jnp.maximum(deviation, TINY) / self.temperature)


_WEIGHTINGS = {
    "bip": Bipartition,
    "eig": Eigenvector,
    "eigbip": ForegroundEigenvector,
    "eigsft": SoftEigenvector,
}

POOLINGS = {
    f"tcut-{name}{suffix}": functools.partial(weighting, flipped=flipped)
    for name, weighting in _WEIGHTINGS.items()
    for suffix, flipped in (("", False), ("-f", True))
}
"""Poolings of this file by name."""
