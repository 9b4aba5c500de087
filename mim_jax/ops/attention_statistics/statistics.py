"""Statistics of the attention of one block: how far, how broadly, how differently its heads attend, and to what.

All are per image and head, in float32, straight from queries and keys: with s the logits of a query, L = logsumexp(s)
and p = exp(s - L), logarithms of p are s - L exactly, so no epsilon enters anywhere. "Patch attention" p' means queries
and keys that are patches: prefix tokens (class, registers) are dropped from the logits, which is the same as
renormalising the probabilities and stays exact when a prefix token takes all of them.
"""

import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mim_jax.ops.attention import Bias, attention_logits
from mim_jax.ops.attention_statistics.sums import LOCAL_SIZES, SPATIAL, PatchSums
from mim_jax.ops.attention_statistics.uniform import pair
from mim_jax.ops.attention_statistics.xla import (
    dense_patch_sums,
    rows_of_a_block,
    streamed_rows,
    xla_patch_sums,
)
from mim_jax.ops.showing import shown

Pair = tuple[int, int]

IMPLEMENTATIONS = ("dense", "streamed", "tpu_kernel")

Heads = dict[str, Float[Array, "b k"]]


class AttentionStatistics(NamedTuple):
    """Statistics of one attention block, each per image.

    Attributes:
        heads: by query group ("patches", and "class" and "registers" where there are) and name, `[b, k]`;
            `mim_jax.analysis.definitions` has all names with units and definitions.
        layer: statistics of all heads together by name, `[b]`.
        kl_between_heads: KL(p_h || p_g) in nats of the patch attention of heads h and g, at `[b, h, g]`.
        aligned_attention: patch attention by offset from query to key in patches, mean over queries, of
            `[b, k, 2 rows - 1, 2 columns - 1]`; the query is in the middle.
        attention_received: attention that every token receives from patches, mean over them, `[b, k, n]`.
    """

    heads: dict[str, Heads]
    layer: dict[str, Float[Array, "b"]]
    kl_between_heads: Float[Array, "b k k"]
    aligned_attention: Float[Array, "b k Y X"]
    attention_received: Float[Array, "b k n"]

    def __repr__(self) -> str:
        return shown(self)

    @property
    def attention_distance(self) -> Float[Array, "b k"]:
        """Mean distance from a patch to the patches it attends to, in pixels."""
        return self.heads["patches"]["attention_distance"]

    @property
    def attention_entropy(self) -> Float[Array, "b k"]:
        """Entropy of patch attention, mean over patch queries, in nats."""
        return self.heads["patches"]["attention_entropy"]


@functools.partial(jax.jit, static_argnames=("grid", "prefix", "patch_size", "implementation", "mesh"))
def attention_statistics(
    query: Float[Array, "b k n e"],
    key: Float[Array, "b k n e"],
    *,
    grid: Pair,
    prefix: int = 0,
    patch_size: int | Pair = 1,
    scale: ArrayLike | None = None,
    bias: Bias = None,
    implementation: str | None = None,
    mesh: Mesh | AbstractMesh | None = None,
) -> AttentionStatistics:
    """Statistics of softmax(scale * query key^T + bias).

    Args:
        query: `prefix` tokens, then the patches of `grid` row-major; the first prefix token is the class token, the
            others are registers.
        key: the same.
        grid: rows and columns of patches.
        prefix: number of prefix tokens.
        patch_size: in pixels (rows and columns, or one number); 1 gives distances in patches.
        scale: factor on the product (a number, or one a head `[k, 1, 1]`); 1 / sqrt(e) unless given.
        bias: broadcastable to `[b, k, n, n]`, or None.
        implementation: "dense" (all logits of an image at once), "streamed" (a few rows of queries at a time, memory
            independent of the square of the number of tokens) or "tpu_kernel"; chosen by size and platform if None.
        mesh: the devices that share the batch; the kernel must know them where there are several.

    Raises:
        ValueError: if the number of tokens is not `prefix` plus the patches of `grid`, or the implementation is
            unknown.
    """
    tokens = prefix + grid[0] * grid[1]
    if query.shape[-2] != tokens or key.shape[-2] != tokens:
        raise ValueError(
            f"{query.shape[-2]} queries and {key.shape[-2]} keys are not {prefix} prefix tokens and a grid of "
            f"{grid[0]} x {grid[1]} patches"
        )
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    chosen = implementation or chosen_implementation(grid, query.shape[1], tokens, mesh)
    layout = {"grid": grid, "prefix": prefix, "patch_size": pair(patch_size)}
    with _exact_products():
        if chosen == "dense":
            # In the very words of the forward pass, so that the compiler finds them there and takes them once.
            logits = attention_logits(query, key, scale, bias)
            front, sums = logits[..., :prefix, :], dense_patch_sums(logits[..., prefix:, :], **layout)
        else:
            front = attention_logits(query[..., :prefix, :], key, scale, _bias_rows(bias, slice(0, prefix)))
            below = _bias_rows(bias, slice(prefix, None))
            sums = _sums(chosen, mesh, query[..., prefix:, :], key, scale=scale, bias=below, **layout)
    return _statistics(sums, front, prefix, pair(patch_size))


def _exact_products() -> contextlib.AbstractContextManager[None]:
    """Accelerators would round float32 products to bfloat16 or TF32; a CPU does not."""
    exact = jax.default_backend() == "cpu"
    return contextlib.nullcontext() if exact else jax.default_matmul_precision("highest")


def statistics_of_logits(
    logits: Float[Array, "b k n n"], *, grid: Pair, prefix: int = 0, patch_size: int | Pair = 1
) -> AttentionStatistics:
    """The same as `attention_statistics` from the logits before the softmax (or logarithms of attention maps)."""
    nothing = jnp.zeros((*logits.shape[:-1], 1))
    layout = {"grid": grid, "prefix": prefix, "patch_size": patch_size}
    return attention_statistics(nothing, nothing, scale=1.0, bias=logits, **layout)


def chosen_implementation(grid: Pair, num_heads: int, tokens: int, mesh: Mesh | AbstractMesh | None = None) -> str:
    """All at once while an image's logits are small; else the kernel on a TPU, and streams elsewhere."""
    if rows_of_a_block(grid, num_heads, tokens) == grid[0]:
        return "dense"
    # A kernel is not divided over devices by itself.
    placed = mesh is not None or jax.device_count() == 1
    return "tpu_kernel" if jax.default_backend() == "tpu" and placed else "streamed"


def _sums(
    implementation: str,
    mesh: Mesh | AbstractMesh | None,
    query: Float[Array, "b k m e"],
    key: Float[Array, "b k n e"],
    *,
    grid: Pair,
    **rest: Any,
) -> PatchSums:
    if implementation == "streamed":
        return xla_patch_sums(query, key, grid=grid, rows=streamed_rows(grid), **rest)
    if implementation == "tpu_kernel":
        from mim_jax.ops.attention_statistics.tpu_kernel import tpu_patch_sums

        sums = tpu_patch_sums(query, key, grid=grid, **rest, interpret=jax.default_backend() != "tpu", mesh=mesh)
        # A pass of its own, which the compiler drops where nobody asks for the map.
        return sums._replace(aligned=_sums("streamed", mesh, query, key, grid=grid, **rest).aligned)
    raise ValueError(f"unknown implementation '{implementation}'; known are {', '.join(IMPLEMENTATIONS)}")


def _bias_rows(bias: Bias, rows: slice) -> Bias:
    return bias if bias is None or bias.shape[-2] == 1 else bias[..., rows, :]


def _statistics(sums: PatchSums, front: Float[Array, "b k p n"], prefix: int, patch_size: Pair) -> AttentionStatistics:
    assert sums.aligned is not None  # `_sums` adds what an implementation leaves out
    entropies = jnp.diagonal(sums.cross_entropy, axis1=1, axis2=2)
    divergence = jnp.maximum(sums.cross_entropy - entropies[..., None], 0)
    heads = {"patches": _patch_statistics(sums, entropies, divergence, prefix, patch_size)}
    if prefix:
        heads["class"] = _prefix_statistics(front, prefix, 0, 1)
    if prefix > 1:
        heads["registers"] = _prefix_statistics(front, prefix, 1, prefix)
    layer = {"jensen_shannon_between_heads": jnp.maximum(sums.mixture_entropy - entropies.mean(axis=1), 0)}
    return AttentionStatistics(heads, layer, divergence, sums.aligned, sums.received)


def _patch_statistics(
    sums: PatchSums,
    entropies: Float[Array, "b k"],
    divergence: Float[Array, "b k k"],
    prefix: int,
    patch_size: Pair,
) -> Heads:
    """Of patch queries."""
    spatial = dict(zip(SPATIAL, jnp.moveaxis(sums.spatial, -1, 0), strict=True))
    received = jax.scipy.special.entr(sums.received_of_patches).sum(axis=-1)
    patches, num_heads = sums.received_of_patches.shape[-1], entropies.shape[1]
    statistics = {
        "attention_distance": spatial["distance"],
        "attention_distance_squared": spatial["squared_distance"],
        "row_offset": spatial["row_offset"],
        "column_offset": spatial["column_offset"],
        **{f"local_mass_{size}x{size}": spatial[f"local_{size}"] for size in LOCAL_SIZES},
        "attention_entropy": entropies,
        "attention_entropy_with_prefix": sums.entropy_with_prefix,
        "normalised_mutual_information": _normalised_mutual_information(received, entropies, patches),
        "self_attention": sums.own,
        "self_attention_against_patches": sums.own_of_patches,
        "largest_attention_received": sums.received_of_patches.max(axis=-1),
    }
    if patch_size[0] == patch_size[1]:
        statistics["attention_distance_tokens"] = spatial["distance"] / patch_size[0]
    if prefix:
        statistics["attention_to_class"] = sums.received[..., 0]
    if prefix > 1:
        statistics["attention_to_registers"] = sums.received[..., 1:prefix].sum(axis=-1)
    if num_heads > 1:
        statistics["kl_between_heads"] = divergence.sum(axis=2) / (num_heads - 1)
    return statistics


def _normalised_mutual_information(
    received: Float[Array, "b k"], entropies: Float[Array, "b k"], patches: int
) -> Float[Array, "b k"]:
    """I(query; key) / sqrt(H(query) H(key)) under uniform queries; 0 where all queries attend to one key.

    I is the entropy of the mean over queries less the mean of their entropies (Park et al. 2023).
    """
    information = jnp.maximum(received - entropies, 0)
    scale = jnp.sqrt(jnp.log(float(patches)) * received)
    return jnp.where(scale > 0, information / jnp.where(scale > 0, scale, 1), 0)


def _prefix_statistics(front: Float[Array, "b k p n"], prefix: int, first: int, last: int) -> Heads:
    """Of the prefix queries from `first` to `last`, mean over them."""
    share = jax.nn.softmax(front[:, :, first:last], axis=-1)
    entr = jax.scipy.special.entr
    own = jnp.stack([share[:, :, i - first, i] for i in range(first, last)], axis=-1)
    patches = jax.nn.softmax(front[:, :, first:last, prefix:], axis=-1)
    mass = share[..., prefix:].sum(axis=-1)
    statistics = {
        "attention_entropy": entr(patches).sum(axis=-1).mean(axis=-1),
        "attention_entropy_with_prefix": entr(share).sum(axis=-1).mean(axis=-1),
        "self_attention": own.mean(axis=-1),
        "self_attention_against_patches": (own / jnp.maximum(mass, jnp.finfo(jnp.float32).tiny)).mean(axis=-1),
        "attention_to_a_patch": share[..., prefix:].mean(axis=(-2, -1)),
    }
    if first:
        statistics["attention_to_class"] = share[..., 0].mean(axis=-1)
    elif prefix > 1:
        statistics["attention_to_registers"] = share[..., 1:prefix].sum(axis=-1).mean(axis=-1)
    return statistics
