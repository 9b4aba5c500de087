"""What the TPU kernel does with a block of query rows of one image."""

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from mim_jax.ops.attention_statistics.sums import LOCAL_SIZES, Pair
from mim_jax.ops.attention_statistics.tpu_sizes import LANES, ROWS, Sizes

_NEVER = -1e30
"""Logit of a key that is none; finite, so that zero times it is zero."""

_UNROLLED = 32
"""Registers of one head that are multiplied between two turns of a loop."""


Carry = TypeVar("Carry")


@runtime_checkable
class Memory(Protocol):
    """An array in a memory of the chip, read and written by index and by slice (a reference of Pallas)."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def at(self) -> Any: ...
    def __getitem__(self, place: Any, /) -> Array: ...
    def __setitem__(self, place: Any, value: Array, /) -> None: ...


def add_block(
    sizes: Sizes,
    scale: Memory,
    query: Memory,
    key: Memory,
    bias: Memory | None,
    products: Memory,
    columns: Memory,
    right: Memory,
    share: Memory,
    sums: Memory,
) -> None:
    """Adds a block of query rows to the sums of an image.

    Args:
        products: sums over queries and keys, by lane, of p' of every head with every array of `right`.
        columns: at last the sums over queries that `Sizes.parts` names.
        right: the arrays that `Sizes.right` counts, `[g, rows, width]`.
        share: p' by head, `[k, rows, width]` and a margin.
        sums: `columns` before the sum over the rows of a register, `[k, 8, c]`.
    """
    block = pl.program_id(1)
    rows, token = slice(0, sizes.rows), block * sizes.rows + _iota((sizes.rows, 1), 0)

    @pl.when(block == 0)
    def _():
        products[...] = jnp.zeros(products.shape, jnp.float32)
        sums[...] = jnp.zeros(sums.shape, jnp.float32)

    def one_head(head: Int[Array, ""], _: None) -> None:
        logits = _dot(query[head], key[head]) * scale[head]
        if bias is not None:
            logits = logits + _patches_first(sizes, bias[jnp.minimum(head, bias.shape[0] - 1)].astype(jnp.float32))
        logits = _mask(sizes, token, logits)
        right[head] = logits[:, : sizes.width]
        _softmax(
            sizes, token, logits[:, sizes.width :], right.at[head], share.at[head, rows, : sizes.width], sums.at[head]
        )

    jax.lax.fori_loop(0, sizes.heads, one_head, None)
    _fill(sizes, token, right, share)
    _multiply(sizes, right, share, products)

    @pl.when(block == sizes.blocks - 1)
    def _():
        columns[...] = sums[...].sum(axis=1)


def _iota(shape: Pair, axis: int) -> Int[Array, "r c"]:
    return jax.lax.broadcasted_iota(jnp.int32, shape, axis)


def _dot(query: Float[Array, "r e"], key: Float[Array, "e c"]) -> Float[Array, "r c"]:
    precision = jax.lax.Precision.HIGHEST if query.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    return jnp.dot(query, key, precision=precision, preferred_element_type=jnp.float32)


def _patches_first(sizes: Sizes, bias: Float[Array, "r n"]) -> Float[Array, "r c"]:
    """Brings a bias from the order of the tokens into that of the kernel; what is padding gets anything."""
    patches = pltpu.roll(bias, bias.shape[1] - sizes.prefix, 1) if sizes.prefix else bias
    return jnp.concatenate([patches[:, : sizes.width], bias[:, : sizes.beside]], axis=1)


def _mask(sizes: Sizes, token: Int[Array, "r 1"], logits: Float[Array, "r c"]) -> Float[Array, "r c"]:
    """Puts `_NEVER` where there is no query or no key."""
    column = _iota((1, sizes.keys), 1)
    key = (column < sizes.patches) | ((column >= sizes.width) & (column < sizes.width + sizes.prefix))
    return jnp.where(key & (token < sizes.patches), logits, _NEVER)


def _softmax(
    sizes: Sizes, token: Int[Array, "r 1"], beside: Float[Array, "r c"], right: Memory, share: Memory, sums: Memory
) -> None:
    """Turns the patch logits of a head in `right` into log p', and puts p' into `share`; `beside` are prefix logits.

    Rows without a query end up with nothing in p' and p: their normalisers are made infinite, as it were.
    """
    top = right[...].max(axis=1, keepdims=True)
    right[...] -= top
    log_total = jnp.log(jnp.exp(right[...]).sum(axis=1, keepdims=True))
    log_total = jnp.where(token < sizes.patches, log_total, -_NEVER)
    right[...] -= log_total
    share[...] = jnp.exp(right[...])

    inside = top + log_total
    above = jnp.maximum(inside, beside.max(axis=1, keepdims=True))
    log_all = above + jnp.log(jnp.exp(inside - above) + jnp.exp(beside - above).sum(axis=1, keepdims=True))
    log_weight, log_beside = inside - log_all, beside - log_all
    weight, p_beside = jnp.exp(log_weight), jnp.exp(log_beside)

    own = _lanes(jnp.where(_iota((1, sizes.width), 1) == token, share[...], 0))
    entropy = -weight * _lanes(share[...] * right[...]) - p_beside * log_beside
    entropy -= jnp.where(_iota((1, LANES), 1) == 0, weight * log_weight, 0)
    values = (share[...], share[...] * weight, p_beside, entropy, own * weight, own)
    for part, value in zip(sizes.parts, values):
        sums[:, part] += value.reshape(-1, ROWS, value.shape[1]).sum(axis=0)


def _lanes(x: Float[Array, "r c"]) -> Float[Array, "r lanes"]:
    """Sums what is 128 columns apart."""
    return functools.reduce(jnp.add, (x[:, at : at + LANES] for at in range(0, x.shape[1], LANES)))


def _fill(sizes: Sizes, token: Int[Array, "r 1"], right: Memory, share: Memory) -> None:
    """Puts what is the same for all heads behind what `right` has by head."""

    def fill(lanes: pl.Slice, _: None) -> None:
        mean = share[:, : sizes.rows, lanes].sum(axis=0) / sizes.heads
        tables = _spatial(sizes, token, lanes.start + _iota((1, LANES), 1))
        for index, table in enumerate([*tables, jnp.log(jnp.maximum(mean, 1e-37))], start=sizes.heads):
            right[index, :, lanes] = table

    _loop(sizes.width, LANES, fill, None)


def _spatial(sizes: Sizes, query: Int[Array, "r 1"], key: Int[Array, "1 c"]) -> list[Float[Array, "r c"]]:
    """Tables in the order of `SPATIAL` for patches `[r, 1]` and `[1, c]`."""
    (row, column), (key_row, key_column) = (_position(sizes, index) for index in (query, key))
    down, right = key_row - row, key_column - column
    away = jnp.maximum(jnp.abs(down), jnp.abs(right))
    down, right = down * sizes.patch_size[0], right * sizes.patch_size[1]
    squared = jnp.square(down) + jnp.square(right)
    near = [jnp.where(away <= size // 2, 1.0, 0.0) for size in LOCAL_SIZES]
    return [jnp.sqrt(squared), squared, down, right, *near]


def _position(sizes: Sizes, index: Int[Array, "r c"]) -> tuple[Float[Array, "r c"], Float[Array, "r c"]]:
    """Row and column of a patch; thanks to the half no quotient is so near a whole number that rounding matters."""
    index = index.astype(jnp.float32)
    row = jnp.floor((index + 0.5) / sizes.grid[1])
    return row, index - row * sizes.grid[1]


def _multiply(sizes: Sizes, right: Memory, share: Memory, products: Memory) -> None:
    """Adds the sums of p' of every head with every array of `right` to `products`."""
    counts = range(1, max(1, _UNROLLED * ROWS // sizes.rows) + 1)
    step = LANES * max(count for count in counts if sizes.width // LANES % count == 0)
    tiles = [(slice(row, row + ROWS), lane) for lane in range(0, step, LANES) for row in range(0, sizes.rows, ROWS)]

    def one_array(index: Int[Array, ""], _: None) -> None:
        def add(lanes: pl.Slice, total: Float[Array, "k r lanes"]) -> Float[Array, "k r lanes"]:
            for rows, lane in tiles:
                at = pl.ds(lanes.start + lane, LANES)
                total = total + share[:, rows, at] * right[index, rows, at]
            return total

        zero = jnp.zeros((sizes.heads, ROWS, LANES), jnp.float32)
        products[index] += _loop(sizes.width, step, add, zero).sum(axis=1)

    jax.lax.fori_loop(0, sizes.right, one_array, None)


def _loop(length: int, step: int, body: Callable[[pl.Slice, Carry], Carry], carry: Carry) -> Carry:
    """Folds `body` over slices of `step` of an axis of `length`."""
    at = lambda index: pl.Slice(pl.multiple_of(index * step, step), step)
    return jax.lax.fori_loop(0, length // step, lambda index, carry: body(at(index), carry), carry)
