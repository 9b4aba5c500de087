"""Sizes of the arrays of the TPU kernel and the vector memory that they take."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.typing import DTypeLike

from mim_jax.ops.attention_statistics.sums import SPATIAL, Pair

ROWS, LANES = 8, 128
"""Shape of a register of float32."""

BLOCK_BYTES = 24 * 2**20
"""What the arrays that grow with the rows of a block may take of the vector memory."""

HEAD_BYTES = 2**20
"""What the logits of one head may; the program that one head takes is as long as they are."""


class Sizes(NamedTuple):
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
        ends = np.cumsum([self.width, self.width, self.beside, LANES, LANES, LANES]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends)]


def padded(number: int, to: int) -> int:
    """The next multiple of `to`."""
    return -(-number // to) * to


def sizes_of(heads: int, grid: Pair, prefix: int, patch_size: Pair, biased: bool) -> Sizes:
    """Sizes with as many query rows in a block as `BLOCK_BYTES` and `HEAD_BYTES` hold, spread evenly over blocks."""
    patches = math.prod(grid)
    width, beside = padded(patches, LANES), padded(max(prefix, 1), LANES)
    one_block = Sizes(heads, grid, prefix, patch_size, width, beside, padded(patches, ROWS), 1)
    row_bytes = 4 * (width * (heads + one_block.right) + 2 * biased * heads * (width + beside))
    rows = min(BLOCK_BYTES // row_bytes, HEAD_BYTES // (4 * (width + beside)))
    blocks = -(-patches // max(ROWS, rows // ROWS * ROWS))
    return one_block._replace(rows=padded(-(-patches // blocks), ROWS), blocks=blocks)


def spread(sizes: Sizes) -> Pair:
    """Rows and columns of an array by head of which heads are an odd number of registers apart.

    So what is loaded of several heads at a time comes from several banks of the memory.
    """
    return ROWS * (sizes.rows // ROWS | 1), LANES * (sizes.width // LANES | 1)


def vector_memory(sizes: Sizes, blocks: list[tuple[pl.BlockSpec, DTypeLike]], scratch: list[tuple[int, ...]]) -> int:
    """Bytes for blocks, scratch and what a head needs in between."""
    temporary = [(16, sizes.rows, sizes.keys)]
    copies = [1 if block.pipeline_mode else 2 for block, _ in blocks]
    moved = [copy * _bytes(_held(block), dtype) for copy, (block, dtype) in zip(copies, blocks)]
    return sum(moved) + sum(_bytes(shape, jnp.float32) for shape in scratch + temporary)


def _held(block: pl.BlockSpec) -> tuple[int, ...]:
    """The sides of a block but for the image, an axis that is dropped."""
    return tuple(side for side in block.block_shape or () if isinstance(side, int))


def _bytes(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    *leading, rows, lanes = shape
    size = jnp.dtype(dtype).itemsize
    return math.prod(leading) * padded(rows, 4 * ROWS // size) * padded(lanes, LANES) * size
