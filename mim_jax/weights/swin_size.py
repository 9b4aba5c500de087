"""The image size that a Swin Transformer's weights and buffers show."""

import math

import numpy as np

from mim_jax.errors import InputError
from mim_jax.weights.evidence import Evidence

Pair = tuple[int, int]

OTHERWISE = "if not, --set image_size=HEIGHT,WIDTH"


def image_size(evidence: Evidence, windows: list[Pair], patch: Pair) -> Pair:
    """Height and width, of the first that tells it; what is assumed is noted.

    The masks of shifted windows tell how many of these lie side by side and below each other. A window that was cut
    down to its map tells only the shorter side of it; so does a table of positions the number of patches.
    """
    if "image_size" in evidence.given:
        return evidence.given["image_size"]
    for stage, window in enumerate(windows):
        name = evidence.buffer(rf".*layers\.{stage}\.blocks\.1\..*attn_mask")
        if name and (map_of_windows := count_windows(evidence.read_buffer(name), window)):
            return _pixels((map_of_windows[0] * window[0], map_of_windows[1] * window[1]), stage, patch)
    if "encoder/pos_embed/table" in evidence:
        return _size_of_positions(evidence, patch)
    cut = next((stage for stage, window in enumerate(windows) if window < windows[0]), None)
    stage = len(windows) - 1 if cut is None else cut
    size = _pixels(windows[stage], stage, patch)
    reason = "one window in the last stage" if cut is None else f"a square, whose stage {stage} is one window"
    evidence.assumed.append(f"image_size={size[0]},{size[1]}, {reason}; {OTHERWISE}")
    return size


def count_windows(mask: np.ndarray, window: Pair) -> Pair | None:
    """Rows and columns of windows whose masks `[windows, tokens, tokens]` are given, row by row; None for no such mask.

    Windows at the right and at the bottom are cut by the shift, so their masks are not all zero, and the first of these
    ends the first row. A map that is one window high or wide is never shifted.
    """
    if mask.ndim != 3 or mask.shape[1:] != (math.prod(window),) * 2:
        return None
    cut = np.flatnonzero((np.asarray(mask) != 0).any(axis=(1, 2)))
    columns = int(cut[0]) + 1 if cut.size else 0
    if columns < 2 or len(mask) % columns:
        return None
    rows = len(mask) // columns
    inside = (rows - 1) * (columns - 1)
    return (rows, columns) if rows > 1 and len(mask) - len(cut) == inside else None


def _size_of_positions(evidence: Evidence, patch: Pair) -> Pair:
    patches = evidence.shape("encoder/pos_embed/table")[-2]
    side = math.isqrt(patches)
    if side**2 != patches:
        raise InputError(
            f"its {patches} positions are those of no square; state the size of its images with --set "
            "image_size=HEIGHT,WIDTH"
        )
    size = _pixels((side, side), 0, patch)
    evidence.assumed.append(f"image_size={size[0]},{size[1]}, since its {patches} positions make a square; {OTHERWISE}")
    return size


def _pixels(tokens: Pair, stage: int, patch: Pair) -> Pair:
    return tokens[0] * patch[0] * 2**stage, tokens[1] * patch[1] * 2**stage
