"""The configuration of a Swin Transformer from its weights."""

import math
from typing import Any

from mim_jax.errors import InputError
from mim_jax.weights.evidence import Evidence, ratio
from mim_jax.weights.swin_size import image_size

Pair = tuple[int, int]


def swin_transformer_fields(evidence: Evidence) -> dict[str, Any]:
    """Fields of a `SwinConfig` that names and shapes tell; raises InputError for what must be stated."""
    width, channels, *patch = evidence.shape("encoder/patch_embed/kernel")
    stages = evidence.count(r"encoder/stage(\d+)/blocks")
    fields: dict[str, Any] = {
        "width": width,
        "channels": channels,
        "patch_size": tuple(patch),
        "depths": tuple(evidence.count(rf"encoder/stage{stage}/blocks/(\d+)/") for stage in range(stages)),
        "num_heads": tuple(_heads(evidence, stage) for stage in range(stages)),
        "mlp_ratio": ratio(evidence.shape("encoder/stage0/blocks/0/mlp/fc1/kernel")[0], width),
        "qkv_bias": _qkv_bias(evidence),
        "mask_token": "encoder/mask_token" in evidence,
        "final_norm": "encoder/norm/scale" in evidence,
        "position": "learned" if "encoder/pos_embed/table" in evidence else "none",
    }
    windows = _windows(evidence, stages)
    _note_pretrained_windows(evidence)
    return fields | {"window": windows[0], "image_size": image_size(evidence, windows, (patch[0], patch[1]))}


def _heads(evidence: Evidence, stage: int) -> int:
    attention = f"encoder/stage{stage}/blocks/0/attn"
    if f"{attention}/logit_scale" in evidence:
        return evidence.shape(f"{attention}/logit_scale")[0]
    return evidence.shape(f"{attention}/relative_position_bias/table")[1]


def _qkv_bias(evidence: Evidence) -> str:
    attention = "encoder/stage0/blocks/0/attn"
    if f"{attention}/q_bias" in evidence:
        return "query_value"
    return "all" if f"{attention}/qkv/bias" in evidence else "none"


def _windows(evidence: Evidence, stages: int) -> list[Pair]:
    """The window of every stage, as far as tables and buffers tell; of the first one by all means."""
    given = evidence.given.get("window")
    if given:
        stated = given if isinstance(given, tuple) else (given, given)
        sides = [_window(evidence, stage) or stated for stage in range(stages)] if stated[0] == stated[1] else []
        return [stated, *sides[1:]] if sides else [stated] * stages
    sides = [_window(evidence, stage) for stage in range(stages)]
    first = sides[0]
    if first is None:
        raise InputError("the window of this Swin cannot be told from its weights; state it with --set window=NUMBER")
    return [side or first for side in sides]


def _window(evidence: Evidence, stage: int) -> Pair | None:
    """The square window of a stage; raises InputError for one that is none."""
    table = f"encoder/stage{stage}/blocks/0/attn/relative_position_bias/table"
    index = evidence.buffer(rf".*layers\.{stage}\.blocks\.0\..*relative_position_index")
    coordinates = evidence.buffer(rf".*layers\.{stage}\.blocks\.0\..*relative_coords_table")
    if coordinates and len(evidence.buffers[coordinates]) == 4:
        _, rows, columns, _ = evidence.buffers[coordinates]
        return (rows + 1) // 2, (columns + 1) // 2
    if table in evidence:
        offsets = evidence.shape(table)[0]
        side = (math.isqrt(offsets) + 1) // 2
        square = (2 * side - 1) ** 2 == offsets
    elif index:
        tokens = evidence.buffers[index][0]
        side = math.isqrt(tokens)
        square = side**2 == tokens
    else:
        return None
    if not square:
        raise InputError(f"the windows of its stage {stage} are no squares; state them with --set window=ROWS,COLUMNS")
    return side, side


def _note_pretrained_windows(evidence: Evidence) -> None:
    if "encoder/stage0/blocks/0/attn/logit_scale" in evidence and "pretrained_windows" not in evidence.given:
        evidence.assumed.append(
            "pretrained_windows: the windows that it has now; if it was fine-tuned from others, --set "
            "pretrained_windows=12,12,12,6 (or whatever they were)"
        )
