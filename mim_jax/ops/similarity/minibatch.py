"""CKA between all layers of two encoders from minibatches: for features too wide for anything but Gram matrices."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mim_jax.ops.similarity.gram import (
    FEWEST_ROWS,
    HIGHEST,
    aligned,
    all_valid,
    check_estimator,
    linear_gram,
    u_centred,
)


class MinibatchSums(NamedTuple):
    """Sums over batches; two of them are merged by adding them, field by field.

    Attributes:
        between: HSIC1 of every layer of the first encoder with every one of the second, times the batch's rows.
        first: HSIC1 of every layer of the first encoder with itself, times the rows.
        second: the same of the second encoder.
        rows: number of rows.
        batches: number of batches.
    """

    between: Float[Array, "l m"]
    first: Float[Array, "l"]
    second: Float[Array, "m"]
    rows: Float[Array, ""]
    batches: Float[Array, ""]


def minibatch_sums(
    xs: Sequence[Float[Array, "b _"]], ys: Sequence[Float[Array, "b _"]], valid: Bool[Array, "b"] | None = None
) -> MinibatchSums:
    """What one batch of images adds to the minibatch CKA of two encoders (Nguyen et al. 2021).

    Every Gram matrix is made and centred once; all pairs of layers are then one product. A batch counts by its number
    of rows, so that a short last one does not bring its noise with full weight; batches of one size count alike, as in
    the paper. A batch with fewer than 4 valid rows adds nothing.

    Args:
        xs: features of the batch by layer, of any widths; tokens may be flattened.
        ys: the same of the other encoder; `xs` itself to compare the layers of one.
        valid: False for rows that only fill the batch up. They are left out, whatever they hold.

    Raises:
        ValueError: if the batch has fewer than 4 rows.
    """
    check_estimator("unbiased", xs[0].shape[0])
    first = _centred_grams(xs, valid)
    second = first if ys is xs else _centred_grams(ys, valid)
    rows = all_valid(xs[0], valid).sum().astype(jnp.float32)
    counts = rows >= FEWEST_ROWS
    weight = jnp.where(counts, 1 / jnp.maximum(rows - 3, 1), 0.0)
    return MinibatchSums(
        between=weight * jnp.matmul(first, second.T, precision=HIGHEST),
        first=weight * jnp.square(first).sum(axis=1),
        second=weight * jnp.square(second).sum(axis=1),
        rows=jnp.where(counts, rows, 0.0),
        batches=counts.astype(jnp.float32),
    )


def _centred_grams(layers: Sequence[Float[Array, "b _"]], valid: Bool[Array, "b"] | None) -> Float[Array, "l p"]:
    return jnp.stack([u_centred(linear_gram(layer, valid), valid).ravel() for layer in layers])


def minibatch_cka(sums: MinibatchSums) -> Float[Array, "l m"]:
    """CKA between all layers from the sums over batches; 0 where a layer does not vary."""
    return aligned(sums.between, sums.first, sums.second)
