"""The configuration of a Vision Transformer from its weights."""

import math
from typing import Any

import numpy as np

from mim_jax.ops.positions import position_table
from mim_jax.ops.relative_positions import CLASS_ROWS
from mim_jax.weights.evidence import Evidence, ratio

BLOCK = "encoder/blocks/0"
POSITIONS = "encoder/pos_embed/table"
BLOCK_BIAS, SHARED_BIAS = f"{BLOCK}/attn/relative_position_bias/table", "encoder/relative_position_bias/table"
FIXED_TABLE_TOLERANCE = 1e-5


def vision_transformer_fields(evidence: Evidence) -> dict[str, Any]:
    """Fields of a `VisionTransformerConfig` that names and shapes tell; raises InputError for what must be stated."""
    width, channels, *patch = evidence.shape("encoder/patch_embed/kernel")
    fields: dict[str, Any] = {
        "width": width,
        "channels": channels,
        "patch_size": tuple(patch),
        "depth": evidence.count(r"encoder/blocks/(\d+)/"),
        "class_token": "encoder/cls_token" in evidence,
        "distillation_token": "encoder/dist_token" in evidence,
        "registers": evidence.shape("encoder/register_tokens")[1] if "encoder/register_tokens" in evidence else 0,
        "mask_token": "encoder/mask_token" in evidence,
        "qkv_bias": _qkv_bias(evidence),
        "query_key_norm": f"{BLOCK}/attn/q_norm/scale" in evidence,
        "final_norm": "encoder/norm/scale" in evidence,
        "relative_position_bias": _bias_kind(evidence),
        **_mlp(evidence, width),
    }
    if not evidence.has_layer_scale:
        fields["layer_scale"] = 0.0
    fields["num_heads"] = _heads(evidence, width)
    return fields | _positions(evidence, fields)


def _qkv_bias(evidence: Evidence) -> str:
    if f"{BLOCK}/attn/q_bias" in evidence:
        return "query_value"
    return "all" if f"{BLOCK}/attn/qkv/bias" in evidence else "none"


def _bias_kind(evidence: Evidence) -> str:
    if SHARED_BIAS in evidence:
        return "shared"
    return "per_block" if BLOCK_BIAS in evidence else "none"


def _mlp(evidence: Evidence, width: int) -> dict[str, Any]:
    gated = f"{BLOCK}/mlp/w12/kernel" in evidence
    hidden = evidence.shape(f"{BLOCK}/mlp/{'w12' if gated else 'fc1'}/kernel")[0]
    return {"mlp": "swiglu" if gated else "gelu", "mlp_ratio": ratio(hidden, width)}


def _heads(evidence: Evidence, width: int) -> int:
    if "num_heads" in evidence.given:
        return int(evidence.given["num_heads"])
    for table in (SHARED_BIAS, BLOCK_BIAS):
        if table in evidence:
            return evidence.shape(table)[1]
    if f"{BLOCK}/attn/q_norm/scale" in evidence:
        return width // evidence.shape(f"{BLOCK}/attn/q_norm/scale")[0]
    return evidence.heads(width, "num_heads")


def _positions(evidence: Evidence, fields: dict[str, Any]) -> dict[str, Any]:
    """Image size from the number of positions, and what kind of positions they are."""
    grid = _stated_grid(evidence, fields)
    if POSITIONS not in evidence:
        side = _side_of_bias(evidence, fields["class_token"]) if grid is None else None
        return {"position": "none", "position_prefix": 0} | _image_size(evidence, fields, side)
    rows, width = evidence.shape(POSITIONS)[-2:]
    patches = grid[0] * grid[1] if grid else None
    prefixes = {0, fields["class_token"] + fields["distillation_token"]}
    fitting = [n for n in prefixes if (rows - n == patches if patches else math.isqrt(rows - n) ** 2 == rows - n)]
    prefix = max(fitting, default=max(prefixes))
    side = math.isqrt(rows - prefix)
    grid = grid or (side, side)
    kind = _kind_of_positions(evidence, grid, width, prefix)
    return {"position": kind, "position_prefix": prefix} | _image_size(evidence, fields, side if fitting else None)


def _stated_grid(evidence: Evidence, fields: dict[str, Any]) -> tuple[int, int] | None:
    if "image_size" not in evidence.given:
        return None
    (height, width), (rows, columns) = evidence.given["image_size"], fields["patch_size"]
    return height // rows, width // columns


def _image_size(evidence: Evidence, fields: dict[str, Any], side: int | None) -> dict[str, Any]:
    if "image_size" in evidence.given or side is None:
        return {}
    return {"image_size": (side * fields["patch_size"][0], side * fields["patch_size"][1])}


def _side_of_bias(evidence: Evidence, class_token: bool) -> int | None:
    table = SHARED_BIAS if SHARED_BIAS in evidence else BLOCK_BIAS
    if table not in evidence:
        return None
    offsets = evidence.shape(table)[0] - CLASS_ROWS * class_token
    side = (math.isqrt(offsets) + 1) // 2
    return side if (2 * side - 1) ** 2 == offsets else None


def _kind_of_positions(evidence: Evidence, grid: tuple[int, int], width: int, prefix: int) -> str:
    """ "sincos" or "sincos_rows_first" if the table has just these values, else "learned"."""
    if width % 4 or prefix > 1:
        return "learned"
    table = np.asarray(evidence.read(POSITIONS), np.float64).reshape(-1, width)
    for kind in ("sincos", "sincos_rows_first"):
        fixed = position_table(kind, grid, width, prefix)
        if fixed.shape == table.shape and np.abs(table - fixed).max() < FIXED_TABLE_TOLERANCE:
            return kind
    return "learned"
