"""The configuration of a Swin Transformer from its weights."""

import math
from typing import Any

from mim_jax.errors import InputError
from mim_jax.weights.evidence import Evidence, ratio


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
    size = _image_size(evidence, windows, patch)
    return fields | {"window": windows[0], "image_size": size} | _pretrained_windows(evidence, windows)


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


def _windows(evidence: Evidence, stages: int) -> list[int]:
    """Side of the window of every stage, as far as tables and buffers tell; of the first one by all means."""
    sides = [_window(evidence, stage) for stage in range(stages)]
    given = evidence.given.get("window")
    if isinstance(given, tuple) and len(given) != 2:
        raise InputError("window is one number, or rows and columns; for one a stage --set windows=12,12,12,6")
    first = (given if isinstance(given, int) else given[0]) if given else sides[0]
    if first is None:
        raise InputError("the window of this Swin cannot be told from its weights; state it with --set window=NUMBER")
    return [first if stage == 0 or side is None else side for stage, side in enumerate(sides)]


def _window(evidence: Evidence, stage: int) -> int | None:
    table = f"encoder/stage{stage}/blocks/0/attn/relative_position_bias/table"
    if table in evidence:
        return (math.isqrt(evidence.shape(table)[0]) + 1) // 2
    index = evidence.buffer(rf".*layers\.{stage}\.blocks\.0\..*relative_position_index")
    if index:
        return math.isqrt(index[0])
    offsets = evidence.buffer(rf".*layers\.{stage}\.blocks\.0\..*relative_coords_table")
    return (offsets[1] + 1) // 2 if offsets else None


def _image_size(evidence: Evidence, windows: list[int], patch: list[int]) -> tuple[int, int]:
    """Where a window was cut down to its map, that is the map; otherwise attention masks tell how many windows fit."""
    if "image_size" in evidence.given:
        return tuple(evidence.given["image_size"])
    for stage, window in enumerate(windows):
        if window < windows[0]:
            return _pixels(window, stage, patch)
    for stage, window in enumerate(windows):
        mask = evidence.buffer(rf".*layers\.{stage}\.blocks\.1\.attn_mask")
        if mask:
            return _pixels(math.isqrt(mask[0]) * window, stage, patch)
    size = _pixels(windows[-1], len(windows) - 1, patch)
    evidence.assumed.append(f"image_size={size[0]},{size[1]}, one window in the last stage; if not, --set image_size=")
    return size


def _pixels(tokens: int, stage: int, patch: list[int]) -> tuple[int, int]:
    return tokens * patch[0] * 2**stage, tokens * patch[1] * 2**stage


def _pretrained_windows(evidence: Evidence, windows: list[int]) -> dict[str, Any]:
    if "encoder/stage0/blocks/0/attn/logit_scale" in evidence and "pretrained_windows" not in evidence.given:
        evidence.assumed.append(
            "pretrained_windows: the windows that it has now; if it was fine-tuned from others, --set "
            "pretrained_windows=12,12,12,6 (or whatever they were)"
        )
    return {}
