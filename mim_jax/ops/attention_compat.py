"""What the published code of other papers gives where we give something else, from the logits of one block.

Every code drops the class token in its own way, and some add an epsilon or a slip of their own; the numbers here repeat
that, in float32, so that ours can be laid beside a published figure. All those codes know one prefix token, the class
token; further ones are dropped with it.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.ops.attention_statistics.uniform import pair

Pair = tuple[int, int]
Steps = tuple[int | float, int | float]
Statistics = dict[str, Float[Array, "b k"]]

CODES = {
    "vit": "Dosovitskiy et al. 2021, google-research/vision_transformer issue 162",
    "cl-vs-mim": "Park et al. 2023, naver-ai/cl-vs-mim",
    "walmer": "Walmer et al. 2023, mwalmer-umd/vit_analysis",
    "beyond-cls": "Przewięźlikowski et al. 2025, gmum/beyond_cls",
    "mae-lite": "Wang et al. 2023, wangsr126/MAE-Lite",
}
"""Short name of a code to its paper and repository."""


@dataclasses.dataclass(frozen=True)
class PaperStatistic:
    """How a statistic of a paper's code relates to ours.

    Attributes:
        code: whose code, a name of `CODES`.
        statistic: our statistic that comes nearest.
        query: its query, "class" or "patches".
        difference: what the paper's code does otherwise, in one sentence.
        unit: of the paper's number.
    """

    code: str
    statistic: str
    query: str
    difference: str
    unit: str


_RAW = "the same number"
_DISTANCE = "attention_distance", "patches"
_AGAINST_PATCHES = "1e-6 is added to the attention to patches that it is divided by"
_ENTROPY = "attention to patches is divided by its sum + 1e-6, and 1e-6 is added inside the logarithm"
_UNRENORMALISED = "attention is not renormalised over patches, so the distance is short by the share of the class token"
_UNIFORM = "1e-32 is added before renormalising, so a query that gives patches nothing counts as uniform"
_UNIT_SQUARE = (
    "the grid is mapped to a unit square, so the distance is ours over patch size and side of the grid less 1, and a "
    "query that gives patches nothing counts as 0"
)
_DEVIATION = (
    "another measure of how queries differ: the standard deviation over queries of their attention to a patch, not "
    "renormalised, mean over patches"
)
_INDEX_1 = "the key of index 1, which is the top-left patch, is taken for the class token, which has index 0"
_FOURTEEN = "a patch counts as 14 px whatever its size, so at 16 px the distance is 0.875 times ours"

_RELATIONS = {
    "vit": {"attention_distance": (*_DISTANCE, _UNRENORMALISED, "px")},
    "cl-vs-mim": {
        "attention_distance": (*_DISTANCE, _UNIFORM, "px"),
        "normalised_mutual_information": (
            *("normalised_mutual_information", "patches"),
            *("1e-8 is added to attention before renormalising", ""),
        ),
    },
    "walmer": {
        "attention_distance": (*_DISTANCE, _UNIT_SQUARE, "image sides"),
        "position_deviation": ("normalised_mutual_information", "patches", _DEVIATION, ""),
        "spatial_cls_attention_at_index_1": ("attention_to_class", "patches", _INDEX_1, ""),
    },
    "beyond-cls": {
        "cls_cls_attention": ("self_attention", "class", _RAW, ""),
        "pos_self_attention": ("self_attention", "patches", _RAW, ""),
        "cls_cls_attention_adj_for_cls": ("self_attention_against_patches", "class", _AGAINST_PATCHES, "odds"),
        "pos_self_attention_adj_for_cls": ("self_attention_against_patches", "patches", _AGAINST_PATCHES, ""),
        "cls_pos_attention": ("attention_to_a_patch", "class", _RAW, ""),
        "pos_cls_attention": ("attention_to_class", "patches", _RAW, ""),
        "cls_pos_entropy": ("attention_entropy", "class", _ENTROPY, "nats"),
        "pos_pos_entropy": ("attention_entropy", "patches", _ENTROPY, "nats"),
    },
    "mae-lite": {
        "attention_distance": (*_DISTANCE, _FOURTEEN, "px"),
        "attention_entropy": ("attention_entropy", "patches", "1e-6 is added inside the logarithm", "nats"),
    },
}

COMPAT = {
    f"{code}/{name}": PaperStatistic(code, *relation)
    for code, statistics in _RELATIONS.items()
    for name, relation in statistics.items()
}
"""Every key of `compat_statistics` to its relation to ours."""


def compat_names() -> tuple[str, ...]:
    """Short names of the codes whose numbers can be given."""
    return tuple(CODES)


class _Block(NamedTuple):
    """One block's attention; `patches` is that of patches to patches, not renormalised."""

    logits: Float[Array, "b k n n"]
    weights: Float[Array, "b k n n"]
    grid: Pair
    prefix: int
    patch_size: Pair

    @property
    def patches(self) -> Float[Array, "b k m m"]:
        return self.weights[..., self.prefix :, self.prefix :]


@functools.partial(jax.jit, static_argnames=("grid", "prefix", "patch_size"))
def compat_statistics(
    logits: Float[Array, "b k n n"], *, grid: Pair, prefix: int, patch_size: int | Pair
) -> dict[str, Float[Array, "b k"]]:
    """What each code of `CODES` gives, by image and head: the keys of `COMPAT`, "code/statistic".

    `logits` are those of global attention before the softmax: `prefix` tokens, the class token first, then the patches
    of `grid` row-major, on both axes. `patch_size` is in pixels. Without a class token (`prefix` 0) the statistics that
    need one are left out. Left out too is what is not by head (Walmer's deviation over heads) or not of attention alone
    (the magnitudes of Beyond [cls]).

    Raises:
        ValueError: if the number of tokens is not `prefix` plus the patches of `grid`.
    """
    if logits.shape[-1] != prefix + grid[0] * grid[1]:
        raise ValueError(
            f"{logits.shape[-1]} tokens are not {prefix} prefix tokens and a grid of {grid[0]} x {grid[1]} patches"
        )
    logits, size = logits.astype(jnp.float32), pair(patch_size)
    block = _Block(logits, jax.nn.softmax(logits, axis=-1), grid, prefix, size)
    return {f"{code}/{name}": value for code, of in _STATISTICS.items() for name, value in of(block).items()}


def _vit(block: _Block) -> Statistics:
    return {"attention_distance": _distance(block.patches, block.grid, block.patch_size)}


def _cl_vs_mim(block: _Block) -> Statistics:
    return {
        "attention_distance": _distance(_normalised(block.patches + 1e-32), block.grid, block.patch_size),
        "normalised_mutual_information": _mutual_information(_normalised(block.patches + 1e-8)),
    }


def _walmer(block: _Block) -> Statistics:
    total = block.patches.sum(axis=-1, keepdims=True)
    weights = block.patches / jnp.where(total == 0, 1, total)
    rows, columns = (1 / max(side - 1, 1) for side in block.grid)
    found = {
        "attention_distance": _distance(weights, block.grid, (rows, columns)),
        "position_deviation": block.patches.std(axis=-2, ddof=1).mean(axis=-1),
    }
    if block.prefix:
        found["spatial_cls_attention_at_index_1"] = block.weights[..., block.prefix :, 1].mean(axis=-1)
    return found


def _beyond_cls(block: _Block) -> Statistics:
    rows = block.weights[..., block.prefix :]
    to_patches = rows.sum(axis=-1) + 1e-6
    entropy = _entropy(rows / to_patches[..., None])
    own = jnp.diagonal(block.weights, axis1=-2, axis2=-1)

    def of_patches(values: Float[Array, "b k n"]) -> Float[Array, "b k"]:
        return values[..., block.prefix :].mean(axis=-1)

    found = {
        "pos_self_attention": of_patches(own),
        "pos_self_attention_adj_for_cls": of_patches(own / to_patches),
        "pos_pos_entropy": of_patches(entropy),
    }
    of_class = {
        "cls_cls_attention": own[..., 0],
        "cls_cls_attention_adj_for_cls": (own / to_patches)[..., 0],
        "cls_pos_attention": of_patches(block.weights[..., 0, :]),
        "pos_cls_attention": of_patches(block.weights[..., 0]),
        "cls_pos_entropy": entropy[..., 0],
    }
    return found | (of_class if block.prefix else {})


def _mae_lite(block: _Block) -> Statistics:
    weights = jax.nn.softmax(block.logits[..., block.prefix :, block.prefix :], axis=-1)
    return {
        "attention_distance": _distance(weights, block.grid, (14, 14)),
        "attention_entropy": _entropy(weights).mean(axis=-1),
    }


_STATISTICS = {
    "vit": _vit,
    "cl-vs-mim": _cl_vs_mim,
    "walmer": _walmer,
    "beyond-cls": _beyond_cls,
    "mae-lite": _mae_lite,
}


def _normalised(weights: Float[Array, "b k m m"]) -> Float[Array, "b k m m"]:
    return weights / weights.sum(axis=-1, keepdims=True)


def _distance(
    weights: Float[Array, "b k m m"], grid: Pair, step: tuple[int | float, int | float]
) -> Float[Array, "b k"]:
    """Distance to the keys by their weight, mean over queries; `step` is that from a row or column to the next."""
    rows, columns = jnp.divmod(jnp.arange(grid[0] * grid[1]), grid[1])
    distances = jnp.hypot((rows[:, None] - rows) * float(step[0]), (columns[:, None] - columns) * float(step[1]))
    return jnp.sum(weights * distances, axis=-1).mean(axis=-1)


def _entropy(weights: Float[Array, "b k n m"]) -> Float[Array, "b k n"]:
    """Entropy by query in nats, with 1e-6 inside the logarithm."""
    return -jnp.sum(weights * jnp.log(weights + 1e-6), axis=-1)


def _mutual_information(weights: Float[Array, "b k m m"]) -> Float[Array, "b k"]:
    """Mutual information of query and key under uniform queries, over sqrt(H(query) H(key))."""
    keys = weights.mean(axis=-2)
    information = jnp.sum(weights * jnp.log(weights / keys[..., None, :]), axis=-1).mean(axis=-1)
    return information / jnp.sqrt(-jnp.sum(keys * jnp.log(keys), axis=-1) * jnp.log(float(weights.shape[-1])))
