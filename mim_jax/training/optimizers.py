"""AdamW with the parameter groups of the papers."""

import re
from typing import Any

import jax
import optax

from mim_jax.training.trees import Rules, first_match, map_with_names

PRETRAINING_DECAY: Rules = ((r"(bias|scale|pos_embed/table)$", False), (r"", True))
"""Which parameters decay in pre-training: all but biases, norms and fixed positions. Class and mask token do."""

FINE_TUNING_DECAY: Rules = ((r"(bias|scale|pos_embed/table|cls_token)$", False), (r"", True))
"""Which parameters decay in fine-tuning: here the class token does not either."""


def adamw(
    schedule: optax.Schedule,
    *,
    betas: tuple[float, float],
    weight_decay: float,
    decay: Rules = PRETRAINING_DECAY,
    clip_norm: float = 0.0,
    learning_rate_scale: Any = None,
    epsilon: float = 1e-8,
) -> optax.GradientTransformation:
    """AdamW as torch's (decay decoupled and multiplied by the learning rate).

    `clip_norm` bounds the global norm of the gradient (0: no bound). `learning_rate_scale` is a tree of factors on the
    learning rate of every parameter, for layer-wise decay.
    """

    def mask(parameters: Any) -> Any:
        return map_with_names(lambda name, _: first_match(decay, name), parameters)

    steps = [optax.adamw(schedule, *betas, eps=epsilon, weight_decay=weight_decay, mask=mask)]
    if clip_norm > 0:
        steps.insert(0, optax.clip_by_global_norm(clip_norm))
    if learning_rate_scale is not None:
        steps.append(_scale_by(learning_rate_scale))
    return optax.chain(*steps)


def _scale_by(factors: Any) -> optax.GradientTransformation:
    return optax.stateless(lambda updates, _: jax.tree.map(lambda update, factor: update * factor, updates, factors))


def layerwise_scale(parameters: Any, *, depth: int, decay: float) -> Any:
    """Factor on the learning rate of every parameter of a classifier (BEiT, MAE): `decay ** (depth + 1 - layer)`.

    Embeddings are layer 0, block i is layer i + 1, everything after the blocks is layer `depth + 1`.
    """
    return map_with_names(lambda name, _: decay ** (depth + 1 - _layer(name, depth)), parameters)


def _layer(name: str, depth: int) -> int:
    block = re.search(r"blocks/(\d+)/", name)
    if block:
        return int(block[1]) + 1
    return 0 if re.search(r"cls_token|pos_embed|patch_embed", name) else depth + 1
