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
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AbstractMesh, Mesh, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mim_jax.ops.attention import Bias
from mim_jax.ops.attention_statistics.sums import Pair, PatchSums
from mim_jax.ops.attention_statistics.tpu_block import add_block
from mim_jax.ops.attention_statistics.tpu_sizes import LANES, ROWS, Sizes, padded, sizes_of, spread, vector_memory

Outputs = tuple[Float[Array, "b g k lanes"], Float[Array, "b k columns"]]
"""Sums over the queries and keys of an image, and over its queries (`add_block`)."""


def tpu_patch_sums(
    query: Float[Array, "b k m e"],
    key: Float[Array, "b k n e"],
    *,
    grid: Pair,
    prefix: int,
    patch_size: Pair,
    scale: ArrayLike,
    bias: Bias = None,
    interpret: bool | pltpu.InterpretParams = False,
    mesh: Mesh | AbstractMesh | None = None,
    axes: tuple[str, ...] = ("data", "fsdp"),
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
        mesh: devices over which the images are sharded, each of which does its own; None for a single device.
        axes: of the mesh, over which the images are sharded.

    Raises:
        ValueError: queries or keys that do not fit the grid and the prefix, or images that do not spread evenly over
            the devices.
    """
    patches = math.prod(grid)
    if (query.shape[2], key.shape[2]) != (patches, prefix + patches):
        raise ValueError(
            f"A grid of {grid} patches and {prefix} prefix tokens have {patches} patch queries and {prefix + patches} "
            f"keys, not {query.shape[2]} and {key.shape[2]}: pass the queries of patches and the keys of all tokens."
        )
    sizes = sizes_of(query.shape[1], grid, prefix, patch_size, bias is not None)
    arrays = [array for array in _operands(sizes, query, key, scale, bias) if array is not None]
    run = functools.partial(_call, sizes, interpret)
    if mesh is not None:
        run = _on_every_device(run, mesh, axes, arrays)
    return _means(sizes, *run(*arrays))


def _on_every_device(
    run: Callable[..., Outputs], mesh: Mesh | AbstractMesh, axes: tuple[str, ...], arrays: list[Array]
) -> Callable[..., Outputs]:
    """`run` on the images that a device holds; XLA cannot look into a kernel, so it would not know how to part it."""
    batch, devices = len(arrays[1]), math.prod(mesh.shape[axis] for axis in axes)
    if batch % devices:
        raise ValueError(f"{batch} images cannot be spread evenly over {devices} devices: pad the batch.")
    images, whole = PartitionSpec(axes), PartitionSpec()
    given = tuple(images if array.ndim == 4 and len(array) == batch else whole for array in arrays)
    return jax.shard_map(run, mesh=mesh, in_specs=given, out_specs=images, check_vma=False)


def _operands(
    sizes: Sizes,
    query: Float[Array, "b k m e"],
    key: Float[Array, "b k n e"],
    scale: ArrayLike,
    bias: Bias,
) -> tuple[Float[Array, "k"], Float[Array, "b k m e"], Float[Array, "b k e keys"], Float[Array, "_ _ m n"] | None]:
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


def _pad(x: Float[Array, "*b n"], to: int) -> Float[Array, "*b to"]:
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, to - x.shape[-1])])


def _call(
    sizes: Sizes,
    interpret: bool | pltpu.InterpretParams,
    scale: Float[Array, "k"],
    query: Float[Array, "b k m e"],
    key: Float[Array, "b k e keys"],
    bias: Float[Array, "_ _ m n"] | None = None,
) -> Outputs:
    batch, heads, _, features = query.shape
    # A long image's keys are read so seldom that the room of a second copy is worth more.
    once = pl.Buffered(1) if sizes.blocks > 1 else None
    inputs = [
        pl.BlockSpec((None, heads, sizes.rows, features), lambda image, block: (image, 0, block, 0)),
        pl.BlockSpec((None, heads, features, sizes.keys), lambda image, block: (image, 0, 0, 0), pipeline_mode=once),
        None if bias is None else _bias_block(sizes, bias.shape),
    ]
    products, columns = (sizes.right, heads, LANES), (heads, sizes.parts[-1].stop)
    outputs = [
        pl.BlockSpec((None, *products), lambda image, block: (image, 0, 0, 0)),
        pl.BlockSpec((None, *columns), lambda image, block: (image, 0, 0)),
    ]
    scratch: list[tuple[int, ...]] = [
        (sizes.right, sizes.rows, sizes.width),
        (heads, *spread(sizes)),
        (heads, ROWS, columns[1]),
    ]
    blocks = [(block, array.dtype) for block, array in zip(inputs, (query, key, bias)) if block and array is not None]
    memory = vector_memory(sizes, blocks + [(block, jnp.float32) for block in outputs], scratch)
    return pl.pallas_call(
        functools.partial(add_block, sizes),
        grid=(batch, sizes.blocks),
        in_specs=[pl.BlockSpec(memory_space=pltpu.SMEM), *inputs],
        out_specs=outputs,
        out_shape=[jax.ShapeDtypeStruct((batch, *shape), jnp.float32) for shape in (products, columns)],
        scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=memory),
        interpret=interpret,
        name="patch_sums",
    )(scale, query, key, bias)


def _bias_block(sizes: Sizes, shape: tuple[int, ...]) -> pl.BlockSpec:
    """The rows of a block, of all heads that the bias tells apart, in the order of the tokens."""
    lanes = padded(sizes.prefix + sizes.patches, LANES)
    return pl.BlockSpec(
        (None, shape[1], sizes.rows, lanes), lambda image, block: (image if shape[0] > 1 else 0, 0, block, 0)
    )


def _means(sizes: Sizes, products: Float[Array, "b g k lanes"], columns: Float[Array, "b k columns"]) -> PatchSums:
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
