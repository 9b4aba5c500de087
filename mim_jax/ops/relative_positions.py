"""Additive attention biases that depend on the offset between query and key."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Pair = tuple[int, int]

CLASS_ROWS = 3
"""Extra rows at the end of a table that knows a class token: class to patch, patch to class, class to class."""

LOG_COORDINATE_RANGE = 8.0  # SwinV2 maps offsets to -8..8 before it takes logarithms


def table_rows(window: Pair, class_token: bool = False) -> int:
    """Rows of a table: one for every offset within the window, and three for a class token."""
    return (2 * window[0] - 1) * (2 * window[1] - 1) + CLASS_ROWS * class_token


def relative_position_bias(
    table: Float[Array, "r k"], window: Pair, class_token: bool = False
) -> Float[Array, "k n n"]:
    """Bias of every pair of tokens of a window (Liu et al. 2021; with class token Bao et al. 2022).

    Query i and key j get row `(yi - yj + rows - 1) * (2 * columns - 1) + xi - xj + columns - 1` of the table. The
    lookup is a product with two small one-hot matrices, one an axis: exact, and its derivative is no scatter.
    """
    rows, columns = window
    offsets = table[: table_rows(window)].reshape(2 * rows - 1, 2 * columns - 1, -1)
    precise = jax.lax.Precision.HIGHEST
    bias = jnp.einsum("yYu,uvk->kyYv", _offset_one_hot(rows), offsets, precision=precise)
    bias = jnp.einsum("xXv,kyYv->kyxYX", _offset_one_hot(columns), bias, precision=precise)
    bias = bias.reshape(-1, rows * columns, rows * columns)
    return _with_class_token(bias, table[-CLASS_ROWS:]) if class_token else bias


def _offset_one_hot(size: int) -> Float[np.ndarray, "q k o"]:
    position = np.arange(size)
    offset = position[:, None] - position + size - 1
    return (offset[..., None] == np.arange(2 * size - 1)).astype(np.float32)


def _with_class_token(bias: Float[Array, "k n n"], entries: Float[Array, "3 k"]) -> Float[Array, "k t t"]:
    heads, patches, _ = bias.shape
    to_patch, to_class, itself = entries[:, :, None, None]
    first = jnp.concatenate([itself, jnp.broadcast_to(to_patch, (heads, 1, patches))], axis=2)
    others = jnp.concatenate([jnp.broadcast_to(to_class, (heads, patches, 1)), bias], axis=2)
    return jnp.concatenate([first, others], axis=1)


def log_spaced_offsets(window: Pair, reference: Pair) -> Float[np.ndarray, "r 2"]:
    """Row and column offset of every row of a table, on SwinV2's signed logarithmic scale (Liu et al. 2022, eq. 4).

    An offset d becomes `sign(u) log2(1 + |u|) / log2(8)` with `u = 8 d / (reference - 1)`; `reference` is the window
    that was pre-trained with.
    """
    axes = [_log_spaced(size, wide) for size, wide in zip(window, reference)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)


def _log_spaced(size: int, reference: int) -> Float[np.ndarray, "o"]:
    offset = np.arange(1 - size, size) * LOG_COORDINATE_RANGE / max(reference - 1, 1)
    return np.sign(offset) * np.log2(np.abs(offset) + 1) / np.log2(LOG_COORDINATE_RANGE)
