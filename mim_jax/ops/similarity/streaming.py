"""Linear CKA of a whole data set between all layers of two encoders, exactly, in one pass and without Gram matrices.

An image has in a layer the features x (an offset subtracted) and the vector z = [x, |x|^2, 1]. The sums over images of
z_x z_y^T of two layers hold all that either estimator of HSIC needs, for all pairs of layers in one matrix product:

    cross = sum x y^T             weighted_x = sum x |y|^2      sum_x = sum x
    weighted_y = sum y |x|^2      weights = sum |x|^2 |y|^2     squares_x = sum |x|^2
    sum_y = sum y                 squares_y = sum |y|^2         rows = sum 1
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mim_jax.ops.similarity.gram import HIGHEST, all_valid, check_estimator

_EXTRA = 2
"""Columns besides the features."""

_RESOLUTION = 1e-6
"""Share of the uncentred sums below which a difference of float32 sums says nothing."""


class CkaSums(NamedTuple):
    """Sums over images of z z^T, float32.

    Attributes:
        between: of all layers of the first encoder, one below the other, with all of the second.
        first: of every layer of the first encoder with itself.
        second: the same of the second encoder.
    """

    between: Float[Array, "p q"]
    first: tuple[Float[Array, "_ _"], ...]
    second: tuple[Float[Array, "_ _"], ...]


def cka_sums(
    xs: Sequence[Float[Array, "n _"]],
    ys: Sequence[Float[Array, "n _"]],
    offset_x: Sequence[Float[Array, "_"]],
    offset_y: Sequence[Float[Array, "_"]],
    valid: Bool[Array, "n"] | None = None,
) -> CkaSums:
    """What n images add to the CKA of a data set. Memory is the square of all layers' widths together.

    Args:
        xs: features by layer, of any widths.
        ys: the same of the other encoder; `xs` itself to compare the layers of one.
        offset_x: what to subtract of `xs`, by layer: near the mean of the data set (say that of the first batch), and
            the same for all parts. The result does not depend on it but through rounding.
        offset_y: the same for `ys`.
        valid: False for rows that only fill the batch up. They are left out, whatever they hold.
    """
    first = _extended(xs, offset_x, valid)
    second = first if ys is xs else _extended(ys, offset_y, valid)
    own_first = tuple(_product(z, z) for z in first)
    own_second = own_first if ys is xs else tuple(_product(z, z) for z in second)
    return CkaSums(_product(jnp.concatenate(first, 1), jnp.concatenate(second, 1)), own_first, own_second)


def _extended(
    layers: Sequence[Float[Array, "n _"]], offsets: Sequence[Float[Array, "_"]], valid: Bool[Array, "n"] | None
) -> list[Float[Array, "n _"]]:
    return [_extend(layer, offset, all_valid(layer, valid)) for layer, offset in zip(layers, offsets, strict=True)]


def _extend(x: Float[Array, "n d"], offset: Float[Array, "d"], valid: Bool[Array, "n"]) -> Float[Array, "n p"]:
    x = jnp.where(valid[:, None], x.astype(jnp.float32) - offset.astype(jnp.float32), 0.0)
    return jnp.concatenate([x, jnp.square(x).sum(1, keepdims=True), valid[:, None].astype(jnp.float32)], 1)


def _product(one: Float[Array, "n p"], other: Float[Array, "n q"]) -> Float[Array, "p q"]:
    return jnp.matmul(one.T, other, precision=HIGHEST)


def merge_cka_sums(one: CkaSums, other: CkaSums) -> CkaSums:
    """The sums of two parts of a data set, whose offsets were the same."""
    return jax.tree.map(jnp.add, one, other)


def cka_of_sums(sums: CkaSums, estimator: str = "unbiased") -> Float[np.ndarray, "l m"]:
    """Linear CKA over all images between all layers, in float64 on the host.

    It equals `linear_cka` of all images at once. It is 0 where a layer does not vary, or by less than float32 resolves
    beside the distance of its mean from the offset.

    Args:
        estimator: "unbiased" or "biased", as in `cka_of_grams`.

    Raises:
        ValueError: if the estimator is unknown, or is unbiased with fewer than 4 images.
    """
    check_estimator(estimator, int(sums.first[0][-1, -1]))
    hsic = _HSIC[estimator]
    first, second = (np.array([_own(hsic, block) for block in own]) for own in (sums.first, sums.second))
    between = np.array([[hsic(block) for block in row] for row in _blocks(sums)])
    lengths = np.sqrt(np.outer(first, second))
    return np.divide(between, lengths, out=np.zeros_like(between), where=lengths > 0)


def _blocks(sums: CkaSums) -> list[list[Float[np.ndarray, "_ _"]]]:
    rows, columns = (np.cumsum([block.shape[0] for block in own])[:-1] for own in (sums.first, sums.second))
    return [np.split(row, columns, axis=1) for row in np.split(np.asarray(sums.between), rows, axis=0)]


Hsic = Callable[[Float[Array | np.ndarray, "_ _"]], float]


def _own(hsic: Hsic, block: Float[Array, "p p"]) -> float:
    value = hsic(block)
    cross = np.asarray(block, np.float64)[:-_EXTRA, :-_EXTRA]
    return value if value > _RESOLUTION * np.sum(cross**2) / float(block[-1, -1]) ** 2 else 0.0


def _biased(block: Float[Array | np.ndarray, "p q"]) -> float:
    block = np.asarray(block, np.float64)
    cross, sum_x, sum_y, rows = block[:-2, :-2], block[:-2, -1], block[-1, :-2], block[-1, -1]
    return float(np.sum((cross - np.outer(sum_x, sum_y) / rows) ** 2) / (rows - 1) ** 2)


def _unbiased(block: Float[Array | np.ndarray, "p q"]) -> float:
    """HSIC1 through the three terms of its definition, the diagonals of the Gram matrices taken off."""
    block = np.asarray(block, np.float64)
    cross, weighted_x, sum_x = block[:-2, :-2], block[:-2, -2], block[:-2, -1]
    weighted_y, weights, squares_x = block[-2, :-2], block[-2, -2], block[-2, -1]
    sum_y, squares_y, n = block[-1, :-2], block[-1, -2], block[-1, -1]
    trace = np.sum(cross**2) - weights
    total_x, total_y = sum_x @ sum_x - squares_x, sum_y @ sum_y - squares_y
    rows = sum_x @ cross @ sum_y - sum_x @ weighted_x - sum_y @ weighted_y + weights
    return float((trace + total_x * total_y / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3)))


_HSIC: dict[str, Hsic] = {"biased": _biased, "unbiased": _unbiased}
