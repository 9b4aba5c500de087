"""Observers that record in every block what poolings need, and no more."""

import functools
from collections.abc import Callable, Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mim_jax.errors import InputError, nearest
from mim_jax.ops.attention import Observation, Observer
from mim_jax.ops.attention_maps import attention_of_queries
from mim_jax.probing.pooling.centre import SIZES, central_patches

OF_ANOTHER_ENCODER = "oracle_attention"

Pair = tuple[int, int]
Recorder = Callable[[Observation, Pair, int], Array]
"""From an observation, the patch grid and the number of prefix tokens to what is recorded."""


def make_observer(needs: Iterable[str], grid: Pair, prefix: int) -> Observer:
    """An observer that returns a dict with every observation of `needs`, names of `RECORDERS`.

    The encoder stacks them over layers. Attention is computed for the few queries needed.

    Args:
        needs: names of observations, those of several poolings together; a name twice is recorded once, and
            "oracle_attention" not at all: it is the "class_attention" of another encoder.
        grid: rows and columns of patches.
        prefix: number of prefix tokens.

    Raises:
        InputError: if a name is unknown or the encoder has no class token or too small a grid for it; by the observer,
            if attention is within windows.
    """
    recorders = {name: _recorder(name) for name in dict.fromkeys(needs) if name != OF_ANOTHER_ENCODER}
    for name in recorders:
        _check_layout(name, grid, prefix)

    def observe(observation: Observation) -> dict[str, Array]:
        if recorders and observation.windows is not None:
            raise InputError(
                "this encoder attends within windows, so no token attends to the whole image; "
                "take a pooling of tokens alone, like 'mean'"
            )
        return {name: record(observation, grid, prefix) for name, record in recorders.items()}

    return observe


def _recorder(name: str) -> Recorder:
    if name not in RECORDERS:
        raise InputError(f"unknown observation '{name}'; {nearest(name, RECORDERS)}")
    return RECORDERS[name]


def _check_layout(name: str, grid: Pair, prefix: int) -> None:
    if name == "class_attention" and prefix < 1:
        raise InputError("this encoder has no class token whose attention could weigh patches; take 'mean' or 'ca2'")
    if name in _CENTRES:
        central_patches(grid, _CENTRES[name])


def class_attention(observation: Observation, grid: Pair, prefix: int) -> Float[Array, "b k n"]:
    """How the first prefix token attends to all tokens."""
    return _attention_rows(observation, np.arange(1))[..., 0, :]


def central_attention(observation: Observation, grid: Pair, prefix: int, *, size: int) -> Float[Array, "b m"]:
    """How the central patches attend to the patches, mean over heads and those queries, not renormalised."""
    rows = _attention_rows(observation, prefix + central_patches(grid, size))
    return rows[..., prefix:].mean(axis=(1, 2))


def patch_keys(observation: Observation, grid: Pair, prefix: int) -> Float[Array, "b m d"]:
    """Keys of the patches, all heads side by side."""
    keys = observation.key[..., prefix:, :].astype(jnp.float32).swapaxes(1, 2)
    return keys.reshape(*keys.shape[:2], -1)


def _attention_rows(observation: Observation, rows: Int[np.ndarray, "m"]) -> Float[Array, "b k m n"]:
    """Attention of some queries over all keys."""
    return attention_of_queries(observation.query, observation.key, observation.scale, observation.bias, rows)


_CENTRES = {f"central_attention_{size}": size for size in SIZES}

RECORDERS: dict[str, Recorder] = {
    "class_attention": class_attention,
    "keys": patch_keys,
    **{name: functools.partial(central_attention, size=size) for name, size in _CENTRES.items()},
}
"""Observations by name: "class_attention" `[b, k, n]`, "keys" `[b, m, d]`, "central_attention_1" to "_4" `[b, m]`."""
