"""Statistics of the attention of patch queries on a TPU: the attention itself never leaves the chip.

One program of the kernel takes a block of query rows of an image, all heads of it at once, with whole rows of keys.
The patches' keys come first and the prefix tokens' in lanes of their own, so that the softmax over patches alone, from
which all else follows, is one over whole registers.

What is linear in that softmax is a product of it with one of a stack of arrays: log-attention of every head (cross
entropies), tables of positions (distances), the logarithm of the mean over heads. The vector unit multiplies and adds:
the matrix unit would spend seven eighths of its six passes on pairs of different queries.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from mim_jax.ops.attention_statistics.sums import LOCAL_SIZES, SPATIAL, Pair, PatchSums

_ROWS, _LANES = 8, 128
"""Shape of a register of float32."""

_NEVER = -1e30
"""Logit of a key that is none; finite, so that zero times it is zero."""

_BLOCK_BYTES = 24 * 2**20
"""What the arrays that grow with the rows of a block may take of the vector memory."""

_HEAD_BYTES = 2**20
"""What the logits of one head may; the program that one head takes is as long as they are."""

_UNROLLED = 32
"""Registers of one head that are multiplied between two turns of a loop."""


class _Sizes(NamedTuple):
    """Sizes of the kernel's arrays; `width` and `beside` are the padded numbers of patches and of prefix tokens."""

    heads: int
    grid: Pair
    prefix: int
    patch_size: Pair
    width: int
    beside: int
    rows: int
    blocks: int

    @property
    def patches(self) -> int:
        return math.prod(self.grid)

    @property
    def keys(self) -> int:
        return self.width + self.beside

    @property
    def right(self) -> int:
        """Arrays that p' is multiplied with: log p' by head, `SPATIAL`, logarithm of the mean over heads."""
        return self.heads + len(SPATIAL) + 1

    @property
    def parts(self) -> list[slice]:
        """Where sums over queries lie: p' and p by patch, p by prefix token; entropy of p, own p, own p' by lane."""
        ends = np.cumsum([self.width, self.width, self.beside, _LANES, _LANES, _LANES]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends)]


def tpu_patch_sums(
    query: Float[Array, "b k m e"],
    key: Float[Array, "b k n e"],
    *,
    grid: Pair,
    prefix: int,
    patch_size: Pair,
    scale: Any,
    bias: Any = None,
    interpret: Any = False,
) -> PatchSums:
    """Statistics of the attention of patch queries by a Pallas kernel for TPU; `aligned` is None.

    Args:
        query: queries of the patches, row-major on the grid, in float32 or bfloat16.
        key: keys of the prefix tokens and then of the patches.
        grid: rows and columns of patches.
        prefix: number of prefix tokens.
        patch_size: height and width of a patch in pixels.
        scale: factor on the product of query and key: a number, or one per head, `[k, 1, 1]`.
        bias: added to the scaled logits, broadcastable to `[b, k, m, n]`, or None; -100 keeps a pair apart.
        interpret: run the kernel on any device, slowly (True, or parameters of Pallas' simulation of a TPU).

    Raises:
        ValueError: queries or keys that do not fit the grid and the prefix.
    """
    patches = math.prod(grid)
    if (query.shape[2], key.shape[2]) != (patches, prefix + patches):
        raise ValueError(
            f"A grid of {grid} patches and {prefix} prefix tokens have {patches} patch queries and {prefix + patches} "
            f"keys, not {query.shape[2]} and {key.shape[2]}: pass the queries of patches and the keys of all tokens."
        )
    sizes = _sizes(query.shape[1], grid, prefix, patch_size, bias is not None)
    return _means(sizes, *_call(sizes, *_operands(sizes, query, key, scale, bias), interpret))


def _padded(number: int, to: int) -> int:
    return -(-number // to) * to


def _sizes(heads: int, grid: Pair, prefix: int, patch_size: Pair, biased: bool) -> _Sizes:
    """Sizes with as many query rows in a block as `_BLOCK_BYTES` and `_HEAD_BYTES` hold, spread evenly over blocks."""
    patches = math.prod(grid)
    width, beside = _padded(patches, _LANES), _padded(max(prefix, 1), _LANES)
    one_block = _Sizes(heads, grid, prefix, patch_size, width, beside, _padded(patches, _ROWS), 1)
    row_bytes = 4 * (width * (heads + one_block.right) + 2 * biased * heads * (width + beside))
    rows = min(_BLOCK_BYTES // row_bytes, _HEAD_BYTES // (4 * (width + beside)))
    blocks = -(-patches // max(_ROWS, rows // _ROWS * _ROWS))
    return one_block._replace(rows=_padded(-(-patches // blocks), _ROWS), blocks=blocks)


def _operands(sizes: _Sizes, query: Any, key: Any, scale: Any, bias: Any) -> tuple[Any, Any, Any, Any]:
    """Scales by head, queries, keys `[b, k, e, keys]` in the kernel's order, bias of four axes."""
    dtype = jnp.bfloat16 if query.dtype == key.dtype == jnp.bfloat16 else jnp.float32
    scale = jnp.broadcast_to(jnp.asarray(scale, jnp.float32).reshape(-1), sizes.heads)
    key = key.astype(dtype).swapaxes(-1, -2)
    patches, beside = (_pad(key[..., sizes.prefix :], sizes.width), _pad(key[..., : sizes.prefix], sizes.beside))
    if bias is not None:
        bias = jnp.asarray(bias)
        leading = ((1, 1) + bias.shape[:-2])[-2:]
        bias = jnp.broadcast_to(bias, (*leading, sizes.patches, sizes.prefix + sizes.patches))
    return scale, query.astype(dtype), jnp.concatenate([patches, beside], axis=-1), bias


def _pad(x: Any, to: int) -> Any:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, to - x.shape[-1])])


def _call(sizes: _Sizes, scale: Any, query: Any, key: Any, bias: Any, interpret: Any) -> Any:
    batch, heads, _, features = query.shape
    # A long image's keys are read so seldom that the room of a second copy is worth more.
    once = pl.Buffered(1) if sizes.blocks > 1 else None
    inputs = [
        pl.BlockSpec((None, heads, sizes.rows, features), lambda image, block: (image, 0, block, 0)),
        pl.BlockSpec((None, heads, features, sizes.keys), lambda image, block: (image, 0, 0, 0), pipeline_mode=once),
        None if bias is None else _bias_block(sizes, bias.shape),
    ]
    products, columns = (sizes.right, heads, _LANES), (heads, sizes.parts[-1].stop)
    outputs = [
        pl.BlockSpec((None, *products), lambda image, block: (image, 0, 0, 0)),
        pl.BlockSpec((None, *columns), lambda image, block: (image, 0, 0)),
    ]
    scratch = [(sizes.right, sizes.rows, sizes.width), (heads, *_spread(sizes)), (heads, _ROWS, columns[1])]
    blocks = [(block, array.dtype) for block, array in zip(inputs, (query, key, bias)) if block is not None]
    memory = _memory(sizes, blocks + [(block, jnp.float32) for block in outputs], scratch)
    return pl.pallas_call(
        functools.partial(_kernel, sizes),
        grid=(batch, sizes.blocks),
        in_specs=[pl.BlockSpec(memory_space=pltpu.SMEM), *inputs],
        out_specs=outputs,
        out_shape=[jax.ShapeDtypeStruct((batch, *shape), jnp.float32) for shape in (products, columns)],
        scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=memory),
        interpret=interpret,
        name="patch_sums",
    )(scale, query, key, bias)


def _bias_block(sizes: _Sizes, shape: tuple[int, ...]) -> pl.BlockSpec:
    """The rows of a block, of all heads that the bias tells apart, in the order of the tokens."""
    lanes = _padded(sizes.prefix + sizes.patches, _LANES)
    return pl.BlockSpec(
        (None, shape[1], sizes.rows, lanes), lambda image, block: (image if shape[0] > 1 else 0, 0, block, 0)
    )


def _spread(sizes: _Sizes) -> Pair:
    """Rows and columns of an array by head of which heads are an odd number of registers apart.

    So what is loaded of several heads at a time comes from several banks of the memory.
    """
    return _ROWS * (sizes.rows // _ROWS | 1), _LANES * (sizes.width // _LANES | 1)


def _memory(sizes: _Sizes, blocks: list[tuple[pl.BlockSpec, Any]], scratch: list[tuple[int, ...]]) -> int:
    """Bytes of vector memory for blocks, scratch and what a head needs in between."""
    temporary = [(16, sizes.rows, sizes.keys)]
    copies = [1 if block.pipeline_mode else 2 for block, _ in blocks]
    moved = [copy * _bytes(block.block_shape[1:], dtype) for copy, (block, dtype) in zip(copies, blocks)]
    return sum(moved) + sum(_bytes(shape, jnp.float32) for shape in scratch + temporary)


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    *leading, rows, lanes = shape
    size = jnp.dtype(dtype).itemsize
    return math.prod(leading) * _padded(rows, 4 * _ROWS // size) * _padded(lanes, _LANES) * size


def _kernel(
    sizes: _Sizes,
    scale: Any,
    query: Any,
    key: Any,
    bias: Any,
    products: Any,
    columns: Any,
    right: Any,
    share: Any,
    sums: Any,
) -> None:
    """Adds a block of query rows to the sums of an image.

    Args:
        products: sums over queries and keys, by lane, of p' of every head with every array of `right`.
        columns: at last the sums over queries that `_Sizes.parts` names.
        right: the arrays that `_Sizes.right` counts, `[g, rows, width]`.
        share: p' by head, `[k, rows, width]` and a margin.
        sums: `columns` before the sum over the rows of a register, `[k, 8, c]`.
    """
    block = pl.program_id(1)
    rows, token = slice(0, sizes.rows), block * sizes.rows + _iota((sizes.rows, 1), 0)

    @pl.when(block == 0)
    def _():
        products[...] = jnp.zeros_like(products)
        sums[...] = jnp.zeros_like(sums)

    def one_head(head: Any, _: None) -> None:
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


def _iota(shape: Pair, axis: int) -> Any:
    return jax.lax.broadcasted_iota(jnp.int32, shape, axis)


def _dot(query: Any, key: Any) -> Any:
    precision = jax.lax.Precision.HIGHEST if query.dtype == jnp.float32 else None
    return jnp.dot(query, key, precision=precision, preferred_element_type=jnp.float32)


def _patches_first(sizes: _Sizes, bias: Any) -> Any:
    """Brings a bias from the order of the tokens into that of the kernel; what is padding gets anything."""
    patches = pltpu.roll(bias, bias.shape[1] - sizes.prefix, 1) if sizes.prefix else bias
    return jnp.concatenate([patches[:, : sizes.width], bias[:, : sizes.beside]], axis=1)


def _mask(sizes: _Sizes, token: Any, logits: Any) -> Any:
    """Puts `_NEVER` where there is no query or no key."""
    column = _iota((1, sizes.keys), 1)
    key = (column < sizes.patches) | ((column >= sizes.width) & (column < sizes.width + sizes.prefix))
    return jnp.where(key & (token < sizes.patches), logits, _NEVER)


def _softmax(sizes: _Sizes, token: Any, beside: Any, right: Any, share: Any, sums: Any) -> None:
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
    entropy -= jnp.where(_iota((1, _LANES), 1) == 0, weight * log_weight, 0)
    values = (share[...], share[...] * weight, p_beside, entropy, own * weight, own)
    for part, value in zip(sizes.parts, values):
        sums[:, part] += value.reshape(-1, _ROWS, value.shape[1]).sum(axis=0)


def _lanes(x: Any) -> Any:
    """Sums what is 128 columns apart."""
    return sum(x[:, at : at + _LANES] for at in range(0, x.shape[1], _LANES))


def _fill(sizes: _Sizes, token: Any, right: Any, share: Any) -> None:
    """Puts what is the same for all heads behind what `right` has by head."""

    def fill(lanes: Any, _: None) -> None:
        mean = share[:, : sizes.rows, lanes].sum(axis=0) / sizes.heads
        tables = _spatial(sizes, token, lanes.start + _iota((1, _LANES), 1))
        for index, table in enumerate([*tables, jnp.log(jnp.maximum(mean, 1e-37))], start=sizes.heads):
            right[index, :, lanes] = table

    _loop(sizes.width, _LANES, fill, None)


def _spatial(sizes: _Sizes, query: Any, key: Any) -> list[Any]:
    """Tables in the order of `SPATIAL` for patches `[r, 1]` and `[1, c]`."""
    (row, column), (key_row, key_column) = (_position(sizes, index) for index in (query, key))
    down, right = key_row - row, key_column - column
    away = jnp.maximum(jnp.abs(down), jnp.abs(right))
    down, right = down * sizes.patch_size[0], right * sizes.patch_size[1]
    squared = jnp.square(down) + jnp.square(right)
    near = [jnp.where(away <= size // 2, 1.0, 0.0) for size in LOCAL_SIZES]
    return [jnp.sqrt(squared), squared, down, right, *near]


def _position(sizes: _Sizes, index: Any) -> tuple[Any, Any]:
    """Row and column of a patch; thanks to the half no quotient is so near a whole number that rounding matters."""
    index = index.astype(jnp.float32)
    row = jnp.floor((index + 0.5) / sizes.grid[1])
    return row, index - row * sizes.grid[1]


def _multiply(sizes: _Sizes, right: Any, share: Any, products: Any) -> None:
    """Adds the sums of p' of every head with every array of `right` to `products`."""
    counts = range(1, max(1, _UNROLLED * _ROWS // sizes.rows) + 1)
    step = _LANES * max(count for count in counts if sizes.width // _LANES % count == 0)
    tiles = [(slice(row, row + _ROWS), lane) for lane in range(0, step, _LANES) for row in range(0, sizes.rows, _ROWS)]

    def one_array(index: Any, _: None) -> None:
        def add(lanes: Any, total: Any) -> Any:
            for rows, lane in tiles:
                at = pl.ds(lanes.start + lane, _LANES)
                total = total + share[:, rows, at] * right[index, rows, at]
            return total

        zero = jnp.zeros((sizes.heads, _ROWS, _LANES), jnp.float32)
        products[index] += _loop(sizes.width, step, add, zero).sum(axis=1)

    jax.lax.fori_loop(0, sizes.right, one_array, None)


def _loop(length: int, step: int, body: Any, carry: Any) -> Any:
    """Folds `body` over slices of `step` of an axis of `length`."""
    at = lambda index: pl.ds(pl.multiple_of(index * step, step), step)
    return jax.lax.fori_loop(0, length // step, lambda index, carry: body(at(index), carry), carry)


def _means(sizes: _Sizes, products: Float[Array, "b g k lanes"], columns: Float[Array, "b k columns"]) -> PatchSums:
    products = products.sum(axis=-1).swapaxes(1, 2) / sizes.patches
    log_shares, spatial, log_mean = jnp.split(products, [sizes.heads, sizes.right - 1], axis=-1)
    of_patches, patches, beside, *rest = (columns[..., part] / sizes.patches for part in sizes.parts)
    entropy, own, own_of_patches = (x.sum(axis=-1) for x in rest)
    return PatchSums(
        cross_entropy=-log_shares,
        mixture_entropy=-log_mean.mean(axis=(1, 2)),
        entropy_with_prefix=entropy,
        own=own,
        own_of_patches=own_of_patches,
        received=jnp.concatenate([beside[..., : sizes.prefix], patches[..., : sizes.patches]], axis=-1),
        received_of_patches=of_patches[..., : sizes.patches],
        spatial=spatial,
    )
