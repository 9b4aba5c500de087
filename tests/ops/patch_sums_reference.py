"""The statistics of `PatchSums`, written down once more in numpy and float64 with the whole matrix at hand."""

import numpy as np

from mim_jax.ops.attention_statistics.sums import LOCAL_SIZES, PatchSums


def reference_patch_sums(logits, grid, prefix, patch_size) -> PatchSums:
    """What the logits `[b, k, m, n]` of patch queries over all keys, prefix first, give in float64, with `aligned`."""
    logits = np.asarray(logits, np.float64)
    log_p, log_q = _log_softmax(logits), _log_softmax(logits[..., prefix:])
    p, q = np.exp(log_p), np.exp(log_q)
    down, right = _offsets(grid)
    return PatchSums(
        cross_entropy=np.stack([-(q * log_q[:, [other]]).sum(-1).mean(-1) for other in range(q.shape[1])], axis=-1),
        mixture_entropy=_entropy(q.mean(1)).mean(-1),
        entropy_with_prefix=-(p * log_p).sum(-1).mean(-1),
        own=np.diagonal(p[..., prefix:], axis1=-2, axis2=-1).mean(-1),
        own_of_patches=np.diagonal(q, axis1=-2, axis2=-1).mean(-1),
        received=p.mean(-2),
        received_of_patches=q.mean(-2),
        spatial=np.stack([(q * of).sum(-1).mean(-1) for of in _spatial(down, right, patch_size)], axis=-1),
        aligned=_aligned(q, grid, down, right),
    )


def _log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _entropy(p):
    return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)


def _offsets(grid):
    """Rows and columns of patches from every query down and to the right to every key."""
    row, column = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    return row[None] - row[:, None], column[None] - column[:, None]


def _spatial(down, right, patch_size):
    squared = (down * patch_size[0]) ** 2.0 + (right * patch_size[1]) ** 2.0
    away = np.maximum(abs(down), abs(right))
    near = [away <= size // 2 for size in LOCAL_SIZES]
    return [np.sqrt(squared), squared, down * patch_size[0], right * patch_size[1], *near]


def _aligned(q, grid, down, right):
    sums = np.zeros((2 * grid[0] - 1, 2 * grid[1] - 1, *q.shape[:2]))
    np.add.at(sums, (down + grid[0] - 1, right + grid[1] - 1), q.transpose(2, 3, 0, 1) / q.shape[-1])
    return sums.transpose(2, 3, 0, 1)
