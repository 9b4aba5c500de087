"""Poolings with weights from the attention of a frozen encoder, "Beyond [cls]" (Przewiezlikowski et al. 2024)."""

import functools
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.errors import InputError
from mim_jax.probing.pooling.centre import SIZES, Size
from mim_jax.probing.pooling.frozen import FrozenTokens
from mim_jax.probing.pooling.weighting import FixedWeights, normalised

EPSILON = 1e-6
"""The original's, in the sum of central attention and in both places of the entropy."""


class ClassAttention(FixedWeights):
    """Average of the patches by how the class token attends to them, mean over heads ("attn-mn").

    Weights are renormalised over the patches.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """That of the class token."""
        return ("class_attention",)

    def weights(self, frozen: FrozenTokens) -> Float[Array, "b 1 n"]:
        """Attention of the class token, mean over heads; sums to one."""
        return normalised(_class_to_patches(frozen).mean(axis=1, keepdims=True))


class LowestEntropyAttention(FixedWeights):
    """Average of the patches by the attention of the class token in one head, chosen per image ("attn-lcte").

    The head is the one with the lowest entropy of the class token's attention over patches, that is, the most
    selective one. Its weights are renormalised over the patches.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """That of the class token."""
        return ("class_attention",)

    def weights(self, frozen: FrozenTokens) -> Float[Array, "b 1 n"]:
        """Attention of the class token in the head of lowest entropy; sums to one."""
        attention = _class_to_patches(frozen)
        head = _entropy(attention).argmin(axis=1)[:, None, None]
        return normalised(jnp.take_along_axis(attention, head, axis=1))


class CentralAttention(FixedWeights):
    """Average of the patches by how the central `size` x `size` patches attend to them ("ca1" to "ca4").

    Attention over patches, mean over heads and central queries, divided by its sum over patches plus 1e-6.

    Attributes:
        size: rows and columns of the square; `centre.central_patches` says where it lies.
        scale: "mean" averages weight times patch over the patches, as the original does, which makes the feature as
            many times smaller as there are patches (where a batch norm with an epsilon of 1e-6 notices it); "sum" is
            the weighted average.
    """

    size: Size = 1
    scale: Literal["mean", "sum"] = "mean"

    @property
    def needs(self) -> tuple[str, ...]:
        """The attention of the central queries."""
        return (f"central_attention_{self.size}",)

    def weights(self, frozen: FrozenTokens) -> Float[Array, "b 1 n"]:
        """Attention of the central patches; sums to one, or with `scale` "mean" to one over the number of patches."""
        (name,) = self.needs
        attention = _over_patches(frozen, name)[:, None]
        weights = attention / (attention.sum(axis=-1, keepdims=True) + EPSILON)
        return weights if self.scale == "sum" else weights / weights.shape[-1]


class OracleAttention(FixedWeights):
    """Patches weighted by the attention of the class token of a second encoder (the original's "dino").

    The observation "oracle_attention" `[b, heads, patches]` is that of the second encoder on the same images and grid:
    its "class_attention", in whichever block, without the columns of prefix tokens.

    Attributes:
        scale: "mean" averages weight times patch over patches, with weights as they are, as the original does; "sum"
            is the weighted average, with weights renormalised over the patches.
    """

    scale: Literal["mean", "sum"] = "mean"

    @property
    def needs(self) -> tuple[str, ...]:
        """That of the second encoder."""
        return ("oracle_attention",)

    def weights(self, frozen: FrozenTokens) -> Float[Array, "b 1 n"]:
        """The second encoder's attention, mean over heads; sums to one only with `scale` "sum"."""
        attention = _over_patches(frozen, "oracle_attention").mean(axis=1, keepdims=True)
        return normalised(attention) if self.scale == "sum" else attention / attention.shape[-1]


def _class_to_patches(frozen: FrozenTokens) -> Float[Array, "b k n"]:
    """Attention of the class token to the patches, not renormalised."""
    attention = frozen.observation("class_attention").astype(jnp.float32)
    _check_places("class_attention", attention.shape[-1], frozen.tokens.shape[1])
    return attention[..., frozen.prefix :]


def _over_patches(frozen: FrozenTokens, name: str) -> Float[Array, "..."]:
    """An observation with one number a patch in its last axis."""
    attention = frozen.observation(name).astype(jnp.float32)
    _check_places(name, attention.shape[-1], frozen.tokens.shape[1] - frozen.prefix)
    return attention


def _check_places(name: str, given: int, wanted: int) -> None:
    if given != wanted:
        raise InputError(
            f"the observation '{name}' is over {given} tokens, but the encoder has {wanted}; "
            "record it on the same images with the same grid"
        )


def _entropy(attention: Float[Array, "b k n"]) -> Float[Array, "b k"]:
    """Entropy in nats over patches with the original's two epsilons."""
    shares = attention / (attention.sum(axis=-1, keepdims=True) + EPSILON)
    return -(shares * jnp.log(shares + EPSILON)).sum(axis=-1)


POOLINGS = {
    **{f"ca{size}": functools.partial(CentralAttention, size=size) for size in SIZES},
    "attn-mn": ClassAttention,
    "attn-lcte": LowestEntropyAttention,
    "oracle": OracleAttention,
}
"""Poolings of this file by name."""
