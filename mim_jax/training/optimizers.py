"""AdamW with the parameter groups of the papers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from mim_jax.training.schedules import GroupSchedule, Rate
from mim_jax.training.trees import Rules, Tree, first_match, map_with_names

# What is a vector in torch. By name, since the ranks here are others: heads are an axis, tokens have one axis only.
VECTORS = r"(^|/)(bias|scale|q_bias|v_bias|gamma_1|gamma_2)$"
_POSITIONS = r"(^|/)pos_embed/table$"


def _all_but(*patterns: str) -> Rules:
    return ((r"|".join(patterns), False), (r"", True))


PRETRAINING_DECAY = _all_but(VECTORS, _POSITIONS)
"""MAE and LUT pre-training: vectors and fixed positions do not decay. Class and mask token do."""

FINE_TUNING_DECAY = _all_but(VECTORS, _POSITIONS, r"cls_token$")
"""Fine-tuning of a ViT (MAE, SimMIM): here the class token does not either. Relative position tables do."""

SWIN_DECAY = _all_but(VECTORS, _POSITIONS, r"/(relative_position_bias|position_mlp)/", r"/logit_scale$")
"""Training and fine-tuning of a Swin of either version: nothing that makes up a relative position bias decays."""

SIMMIM_VIT_DECAY = FINE_TUNING_DECAY
"""SimMIM pre-training of a ViT: mask token and relative position tables decay, the class token does not."""

SIMMIM_SWIN_DECAY = _all_but(VECTORS, _POSITIONS, r"mask_token$")
"""SimMIM pre-training of a Swin: the mask token does not decay, but relative position tables do, other than in
fine-tuning: the original's exemption of them matches no name, and its published weights were trained so."""

Shape = jax.ShapeDtypeStruct | Array | np.ndarray

Scales = Mapping[str, Any]
"""A tree of factors, numbers or numpy arrays, by the names of the parameters."""

_VIT_EMBEDDINGS = r"(^|/)(cls_token|dist_token|register_tokens|mask_token)$|(^|/)(pos_embed|patch_embed)/"
_SWIN_EMBEDDINGS = r"(^|/)mask_token$|(^|/)(patch_embed|patch_norm)/"


def adamw(
    schedule: optax.Schedule,
    *,
    betas: tuple[float, float],
    weight_decay: float,
    decay: Rules = PRETRAINING_DECAY,
    clip_norm: float = 0.0,
    learning_rate_scale: Scales | None = None,
    epsilon: float = 1e-8,
) -> optax.GradientTransformation:
    """AdamW as torch's (decay decoupled and multiplied by the learning rate).

    `clip_norm` bounds the global norm of the gradient (0: no bound). `learning_rate_scale` is a tree of factors on the
    learning rate of every parameter, for layer-wise decay: a `GroupSchedule` gets the factor as its scale (SimMIM), the
    whole value of any other schedule is multiplied by it (MAE).
    """

    def mask(parameters: Tree) -> Tree:
        return map_with_names(lambda name, _: first_match(decay, name), parameters)

    rate = schedule if learning_rate_scale is None else 1.0
    steps = [optax.adamw(rate, *betas, eps=epsilon, weight_decay=weight_decay, mask=mask)]
    if clip_norm > 0:
        steps.insert(0, optax.clip_by_global_norm(clip_norm))
    if learning_rate_scale is not None:
        steps.append(_scale_by_group_rates(schedule, learning_rate_scale))
    return optax.chain(*steps)


def _scale_by_group_rates(schedule: optax.Schedule, scales: Scales) -> optax.GradientTransformation:
    def rate(step: Int[Array, ""], scale: Rate) -> ArrayLike:
        return schedule(step, scale) if isinstance(schedule, GroupSchedule) else schedule(step) * scale

    def init(params: object) -> optax.ScaleByScheduleState:
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

    def update(updates: Tree, state: Any, params: object = None) -> tuple[Tree, optax.ScaleByScheduleState]:
        updates = jax.tree.map(lambda leaf, scale: leaf * rate(jnp.asarray(state.count), scale), updates, scales)
        return updates, optax.ScaleByScheduleState(optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)


def layerwise_scale(
    parameters: Mapping[str, Any], *, depth: int | Sequence[int], decay: float, merging_layers: bool = False
) -> Scales:
    """Factor on the learning rate of every parameter of a classifier (BEiT, MAE, SimMIM): `decay ** (last - layer)`.

    Embeddings are layer 0, then every block is one layer, everything else (a shared relative position bias, final norm
    and head) is the last. Blocks stacked by a scan get an array of factors along their leading axis.

    Args:
        parameters: arrays or shapes by name.
        depth: number of blocks of a ViT, or those of every stage of a Swin. A Swin's absolute positions belong to the
            last layer, as in the original.
        decay: factor from a layer to the one before it.
        merging_layers: whether a Swin's patch merging is a layer of its own (depth estimation, pose) or belongs to the
            last block before it (classification).
    """
    vit = isinstance(depth, int)
    depths, embeddings = ([depth], _VIT_EMBEDDINGS) if vit else (list(depth), _SWIN_EMBEDDINGS)
    first = [1 + sum(depths[:stage]) + stage * merging_layers for stage in range(len(depths) + 1)]
    last = first[-1] - merging_layers

    def layer(name: str, leaf: Shape) -> int | Int[np.ndarray, "..."]:
        place = re.search(r"(?:stage(\d+)/)?(?:blocks/(\d+|stacked)|merging)/", name)
        if not place:
            return 0 if re.search(embeddings, name) else last
        stage = int(place[1] or 0)
        if place[2] == "stacked":
            return first[stage] + np.arange(depths[stage]).reshape(-1, *[1] * (leaf.ndim - 1))
        return first[stage] + (int(place[2]) if place[2] else depths[stage] - 1 + merging_layers)

    return map_with_names(lambda name, leaf: decay ** (last - layer(name, leaf)), parameters)
