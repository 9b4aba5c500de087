"""What every implementation of the attention statistics computes of the patch queries of one block."""

from typing import NamedTuple

from jaxtyping import Array, Float

from mim_jax.ops.showing import shown

Pair = tuple[int, int]

LOCAL_SIZES = (3, 5, 7)
"""Sides in patches of the squares around a query whose share of its attention is told."""

SPATIAL = ("distance", "squared_distance", "row_offset", "column_offset", *(f"local_{size}" for size in LOCAL_SIZES))
"""Order of the last axis of `PatchSums.spatial`."""


class PatchSums(NamedTuple):
    """Means over the patch queries of a block, by image and head, float32.

    With p the attention of a query over all keys and p' the same over the patches alone (renormalised, from the logits
    of the patches, so that it stays exact when a prefix token takes everything):

    Attributes:
        cross_entropy: -sum_j p'_h log p'_g of heads h and g, in nats; the diagonal is the entropy of p'.
        mixture_entropy: entropy of the mean of p' over heads, in nats.
        entropy_with_prefix: entropy of p, in nats.
        own: p of the query's own key.
        own_of_patches: p' of the query's own key.
        received: p by key, prefix tokens first.
        received_of_patches: p' by key.
        spatial: expectations under p', in the order of `SPATIAL`: distance in pixels and its square, offset of the key
            down and to the right in pixels, share of the keys at most 1, 2 and 3 patches away in both directions.
        aligned: p' by offset of the key in patches, of `[2 rows - 1, 2 columns - 1]`; the query is in the middle. None
            where an implementation does not give it.
    """

    cross_entropy: Float[Array, "b k k"]
    mixture_entropy: Float[Array, "b"]
    entropy_with_prefix: Float[Array, "b k"]
    own: Float[Array, "b k"]
    own_of_patches: Float[Array, "b k"]
    received: Float[Array, "b k n"]
    received_of_patches: Float[Array, "b k m"]
    spatial: Float[Array, "b k s"]
    aligned: Float[Array, "b k Y X"] | None = None

    def __repr__(self) -> str:
        return shown(self)
