"""From the tokens of a frozen encoder to one feature per image."""

from mim_jax.probing.pooling import (
    abmilp,
    class_attention,
    cross_attention,
    from_attention,
    gates,
    plain,
    queries,
    tokencut,
)
from mim_jax.probing.pooling.frozen import FrozenTokens, Pooling
from mim_jax.probing.pooling.naming import Constructor, construct
from mim_jax.probing.pooling.plain import mean_patch_tokens

__all__ = ["POOLINGS", "FrozenTokens", "Pooling", "make_pooling", "mean_patch_tokens"]

_FILES = (plain, from_attention, tokencut, abmilp, queries, cross_attention, class_attention, gates)

POOLINGS: dict[str, Constructor] = {name: kind for file in _FILES for name, kind in file.POOLINGS.items()}
"""Poolings by name."""


def make_pooling(text: str) -> Pooling:
    """A pooling from its name, with options where it has any: "mean", "cp2", "ca2(scale=sum)".

    Raises:
        InputError: if the text cannot be read, a name or an option is unknown, or a value does not fit.
    """
    return construct(text, POOLINGS)
