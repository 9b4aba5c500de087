"""Whether two representations agree on which images are alike."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mim_jax.ops.neighbours import unit_rows
from mim_jax.ops.similarity.gram import HIGHEST


def mutual_nearest_neighbours(
    x: Float[Array, "n a"], y: Float[Array, "_ c"], k: int = 10, *, chunk: int = 256
) -> Float[Array, ""]:
    """Share of the k nearest images that two representations have in common, mean over images (Huh et al. 2024).

    Nearest by cosine similarity, the image itself excluded. 1 is perfect agreement; chance gives k / (n - 1). `chunk`
    images are compared at a time: it bounds the memory (`chunk * n` similarities) and does not change the result.

    Raises:
        ValueError: if the numbers of rows differ, or k is not within 1 and n - 1.
    """
    rows = x.shape[0]
    if y.shape[0] != rows:
        raise ValueError(f"mutual_nearest_neighbours got {rows} rows and {y.shape[0]} rows; give the same images twice")
    if not 1 <= k < rows:
        raise ValueError(f"k is {k}; choose a number of neighbours from 1 to {rows - 1}, one less than the images")
    return _common_share(x, y, k, chunk)


@functools.partial(jax.jit, static_argnames=("k", "chunk"))
def _common_share(x: Float[Array, "n a"], y: Float[Array, "n c"], k: int, chunk: int) -> Float[Array, ""]:
    x, y = unit_rows(x), unit_rows(y)

    def share(index: Int[Array, ""]) -> Float[Array, ""]:
        one, other = _nearest(x, index, k), _nearest(y, index, k)
        return (one[:, None] == other).sum() / k

    return jax.lax.map(share, jnp.arange(x.shape[0]), batch_size=chunk).mean()


def _nearest(directions: Float[Array, "n d"], index: Int[Array, ""], k: int) -> Int[Array, "_"]:
    similarity = jnp.matmul(directions, directions[index], precision=HIGHEST)
    return jax.lax.top_k(similarity.at[index].set(-jnp.inf), k)[1]
