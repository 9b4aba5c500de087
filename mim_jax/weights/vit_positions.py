"""Where a Vision Transformer's positions come from, and the image size that they show."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from mim_jax.errors import InputError
from mim_jax.ops.positions import position_table
from mim_jax.ops.relative_positions import CLASS_ROWS
from mim_jax.weights.evidence import Evidence
from mim_jax.weights.stated.values import written

Pair = tuple[int, int]

TABLE = "encoder/pos_embed/table"
BIASES = "encoder/relative_position_bias/table", "encoder/blocks/0/attn/relative_position_bias/table"
FIXED_TABLE_TOLERANCE = 1e-5


def position_fields(evidence: Evidence, fields: dict[str, Any]) -> dict[str, Any]:
    """`position`, `position_prefix` and, where it shows, `image_size`.

    Raises InputError where there are no positions at all, or where the size of the images must be stated.
    """
    if TABLE in evidence:
        return _absolute(evidence, fields)
    unplaced = {"position": "none", "position_prefix": 0}
    if any(table in evidence for table in BIASES):
        return unplaced | _size_of_bias(evidence, fields)
    if evidence.given.get("position") != "none":
        raise InputError(
            "it has neither a table of positions nor relative position biases, so it turns queries and keys by rotary "
            "positions or computes others, which is not supported; if it has no positions at all, --set position=none"
        )
    if "image_size" not in evidence.given:
        raise InputError("nothing in it shows the size of its images; state it with --set image_size=HEIGHT,WIDTH")
    return unplaced


def _absolute(evidence: Evidence, fields: dict[str, Any]) -> dict[str, Any]:
    rows, width = evidence.shape(TABLE)[-2:]
    prefixes = _prefixes(evidence, fields)
    if "image_size" in evidence.given:
        prefix, grid = _stated(evidence, fields, rows, prefixes)
        return {"position": _kind(evidence, grid, width, prefix), "position_prefix": prefix}
    for prefix in filter(lambda prefix: _kind(evidence, None, width, prefix) != "learned", prefixes):
        for grid in grids(rows - prefix):
            kind = _kind(evidence, grid, width, prefix)
            if kind != "learned":  # such values belong to this grid only
                return _sized(kind, prefix, grid, fields)
    prefix, grid = _square(evidence, fields, rows, prefixes)
    return _sized("learned", prefix, grid, fields)


def _prefixes(evidence: Evidence, fields: dict[str, Any]) -> list[int]:
    """How many prefix tokens may have a row of the table, the likeliest first."""
    tokens = fields["class_token"] + fields["distillation_token"]
    if not evidence.unplaced_prefix:
        return list(dict.fromkeys((tokens, tokens + fields["registers"])))
    return list(dict.fromkeys((tokens, tokens + fields["registers"], 0)))


def grids(patches: int) -> Iterator[Pair]:
    """All grids of so many patches, the square one first."""
    found = [(rows, patches // rows) for rows in range(1, patches + 1) if patches % rows == 0]
    yield from sorted(found, key=lambda grid: abs(grid[0] - grid[1]))


def _stated_grid(evidence: Evidence, fields: dict[str, Any]) -> Pair:
    (height, width), patch = evidence.given["image_size"], evidence.given.get("patch_size", fields["patch_size"])
    return height // patch[0], width // patch[1]


def _stated(evidence: Evidence, fields: dict[str, Any], rows: int, prefixes: list[int]) -> tuple[int, Pair]:
    """Prefix and grid for the size that is stated."""
    grid = _stated_grid(evidence, fields)
    prefix = next((prefix for prefix in prefixes if rows - prefix == grid[0] * grid[1]), None)
    if prefix is None:
        raise InputError(
            f"{_stated_size(evidence, grid)}, but the table of positions has {rows} rows; state the size that it is "
            "for with --set image_size=HEIGHT,WIDTH (--image_size resizes it)"
        )
    return prefix, grid


def _stated_size(evidence: Evidence, grid: Pair) -> str:
    size, source = evidence.given["image_size"], evidence.source("image_size")
    return f"image_size is {written(size)} by {source}, which makes {grid[0]}x{grid[1]} patches"


def _check_offsets(evidence: Evidence, fields: dict[str, Any], offsets: int) -> None:
    """Raises InputError where the biases are those of other patches than the stated size makes."""
    rows, columns = grid = _stated_grid(evidence, fields)
    if (2 * rows - 1) * (2 * columns - 1) != offsets:
        raise InputError(
            f"{_stated_size(evidence, grid)}, but its relative position biases have {offsets} offsets; state the size "
            "that they are for with --set image_size=HEIGHT,WIDTH (--image_size resizes them)"
        )


def _square(evidence: Evidence, fields: dict[str, Any], rows: int, prefixes: list[int]) -> tuple[int, Pair]:
    """Prefix and grid where the table is that of a square, which is told; raises InputError where nothing is sure."""
    squares = [(prefix, math.isqrt(rows - prefix)) for prefix in prefixes if _is_square(rows - prefix)]
    certain = squares and (squares[0][0] == prefixes[0] or evidence.has_layer_scale or fields["registers"])
    if not certain:
        raise InputError(
            f"its {rows} positions do not show the size of its images: {_readings(rows, prefixes)}; state it with "
            "--set image_size=HEIGHT,WIDTH"
        )
    prefix, side = squares[0]
    size = side * fields["patch_size"][0], side * fields["patch_size"][1]
    tokens = "" if prefix == prefixes[0] else ", and prefix tokens without a position" * (prefix == 0)
    evidence.assumed.append(
        f"image_size={size[0]},{size[1]}, since its {rows} positions make a square of {side}x{side} patches{tokens}; "
        "if not, --set image_size=HEIGHT,WIDTH"
    )
    return prefix, (side, side)


def _readings(rows: int, prefixes: list[int]) -> str:
    """In words, of how many patches and other tokens the rows may be."""
    return " or ".join(f"{rows - prefix} of patches and {prefix} of tokens in front" for prefix in prefixes)


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


def _sized(kind: str, prefix: int, grid: Pair, fields: dict[str, Any]) -> dict[str, Any]:
    size = tuple(side * patch for side, patch in zip(grid, fields["patch_size"]))
    return {"position": kind, "position_prefix": prefix, "image_size": size}


def _size_of_bias(evidence: Evidence, fields: dict[str, Any]) -> dict[str, Any]:
    """The image size from the number of offsets between patches."""
    table = next(table for table in BIASES if table in evidence)
    offsets = evidence.shape(table)[0] - CLASS_ROWS * fields["class_token"]
    if "image_size" in evidence.given:
        _check_offsets(evidence, fields, offsets)
        return {}
    side = (math.isqrt(max(offsets, 0)) + 1) // 2
    if (2 * side - 1) ** 2 != offsets:
        raise InputError(
            f"its relative position biases have {offsets} offsets, which no square of patches has; state the size of "
            "its images with --set image_size=HEIGHT,WIDTH"
        )
    size = side * fields["patch_size"][0], side * fields["patch_size"][1]
    evidence.assumed.append(
        f"image_size={size[0]},{size[1]}, since its relative position biases make a square of {side}x{side} patches; "
        "if not, --set image_size=HEIGHT,WIDTH"
    )
    return {"image_size": size}


def _kind(evidence: Evidence, grid: Pair | None, width: int, prefix: int) -> str:
    """ "sincos" or "sincos_rows_first" if the table has just these values, else "learned".

    Without a grid only its first patch is looked at, which is the same in all.
    """
    if width % 4 or prefix > 1:
        return "learned"
    table = np.asarray(evidence.read(TABLE), np.float64).reshape(-1, width)
    table = table if grid else table[: prefix + 1]
    for kind in ("sincos", "sincos_rows_first"):
        fixed = position_table(kind, grid or (1, 1), width, prefix)
        if fixed.shape == table.shape and np.abs(table - fixed).max() < FIXED_TABLE_TOLERANCE:
            return kind
    return "learned"
