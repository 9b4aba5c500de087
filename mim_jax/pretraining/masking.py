"""Random masks of the objectives, from the interchangeable pieces."""

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from mim_jax.ops.masks import MASKINGS, spread_cells

Pair = tuple[int, int]


def mask_cells(image_size: Pair, patch_size: Pair, mask_patch: int) -> tuple[Pair, Pair]:
    """Grid of mask cells of `mask_patch` pixels, and the patches in a cell; raises ValueError if they do not fit."""
    if any(mask_patch % patch for patch in patch_size):
        raise ValueError(
            f"mask patch of {mask_patch} pixels is no multiple of the patch size {patch_size[0]}x{patch_size[1]}; "
            "choose a multiple"
        )
    if any(size % mask_patch for size in image_size):
        raise ValueError(
            f"image size {image_size[0]}x{image_size[1]} is no multiple of the mask patch of {mask_patch} pixels; "
            "choose a multiple"
        )
    grid = image_size[0] // mask_patch, image_size[1] // mask_patch
    return grid, (mask_patch // patch_size[0], mask_patch // patch_size[1])


def draw_mask(
    masking: str, key: PRNGKeyArray, batch: int, *, ratio: float, grid: Pair, cell: Pair = (1, 1)
) -> Float[Array, "b n"]:
    """Masks (1 is masked) of patches: a piece of `ops.masks` on a `grid` of cells of `cell` patches each."""
    return spread_cells(MASKINGS[masking](key, batch, grid, ratio), grid, cell)


def check_masking(masking: str, ratio: float, grid: Pair) -> None:
    """Raises ValueError if there is no such masking, or it cannot have this ratio on this grid."""
    if masking not in MASKINGS:
        raise ValueError(f"masking must be one of {', '.join(MASKINGS)}, not '{masking}'")
    jax.eval_shape(lambda key: MASKINGS[masking](key, 1, grid, ratio), jax.random.key(0))
