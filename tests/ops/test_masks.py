"""Masks have the right number of masked patches in the right places."""

from functools import partial

import jax
import numpy as np
import pytest

from mim_jax.ops.masking import number_kept
from mim_jax.ops.masks import (
    MASKINGS,
    average_mask_distance,
    blockwise_mask,
    coarse_mask,
    grid_mask,
    uniform_mask,
)

KEY = jax.random.key(0)
PIECES = {**MASKINGS, "coarse": partial(coarse_mask, cell=(2, 2))}

# Mean AvgDist in pixels of 40 random masks of a 192x192 image, by side of the mask patch and ratio 0.1, 0.2, ...
PUBLISHED_DISTANCES = {
    4: (1.3, 1.4, 1.5, 1.6, 1.8, 2.1, 2.5, 3.3, 5.1),
    8: (2.1, 2.2, 2.5, 2.8, 3.1, 3.7, 4.5, 6.1, 9.9),
    16: (3.8, 4.2, 4.6, 5.2, 6.1, 7.4, 9.3, 12.2, 20.4),
    32: (7.5, 8.6, 9.9, 11.3, 12.8, 15.6, 19.1, 26.3, 45.4),
    64: (17.1, 19.8, 22.5, 25.7, 29.8, 36.6, 50.3, 67.8),
}
# Larger cells scatter more: number of masks, and four or more standard errors of the difference.
MASKS_AND_TOLERANCE = {4: (2, 0.05), 8: (8, 0.06), 16: (40, 0.1), 32: (40, 0.15), 64: (40, 0.2)}


@pytest.mark.parametrize("name", PIECES)
def test_a_mask_is_zeros_and_ones_and_a_function_of_the_key(name):
    draw = jax.jit(PIECES[name], static_argnums=(1, 2, 3))
    mask = np.asarray(draw(KEY, 3, (8, 6), 0.75))
    assert mask.shape == (3, 48) and mask.dtype == np.float32 and set(np.unique(mask)) == {0, 1}
    assert np.array_equal(mask, PIECES[name](KEY, 3, (8, 6), 0.75))
    if name != "grid":
        assert not np.array_equal(mask, draw(jax.random.key(1), 3, (8, 6), 0.75))
        assert len(np.unique(mask, axis=0)) == 3


@pytest.mark.parametrize("name", ["uniform", "coarse", "blockwise"])
@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_a_ratio_out_of_range_is_refused(name, ratio):
    with pytest.raises(ValueError, match="out of range"):
        PIECES[name](KEY, 2, (4, 4), ratio)


@pytest.mark.parametrize("name", ["uniform", "coarse", "blockwise"])
def test_ratio_zero_masks_nothing(name):
    assert not PIECES[name](KEY, 2, (4, 4), 0.0).any()


@pytest.mark.parametrize("ratio", [0.5, 0.6, 0.75, 0.9])
def test_uniform_masks_as_many_as_the_original(ratio):
    assert (uniform_mask(KEY, 4, (14, 14), ratio).sum(axis=1) == 196 - number_kept(196, ratio)).all()


@pytest.mark.parametrize(
    "grid, cell, ratio, masked", [((6, 6), (1, 1), 0.6, 22), ((48, 48), (8, 8), 0.6, 22), ((14, 14), (2, 2), 0.6, 30)]
)
def test_coarse_masks_as_many_whole_cells_as_the_original(grid, cell, ratio, masked):
    mask = np.asarray(coarse_mask(KEY, 4, grid, ratio, cell))
    cells = mask.reshape(4, grid[0] // cell[0], cell[0], grid[1] // cell[1], cell[1])
    assert np.array_equal(cells.min(axis=(2, 4)), cells.max(axis=(2, 4)))
    assert (cells[:, :, 0, :, 0].sum(axis=(1, 2)) == masked).all()


def test_a_whole_product_is_not_rounded_up():
    assert 0.55 * 100 > 55
    assert coarse_mask(KEY, 1, (10, 10), 0.55, (1, 1)).sum() == 55


@pytest.mark.parametrize("piece", [uniform_mask, partial(coarse_mask, cell=(2, 1))])
def test_every_patch_is_masked_equally_often(piece):
    frequency = np.asarray(piece(KEY, 4000, (4, 5), 0.6)).mean(axis=0)
    np.testing.assert_allclose(frequency, 0.6, atol=0.04)  # five standard deviations


def test_a_cell_that_does_not_divide_the_grid_is_refused():
    with pytest.raises(ValueError, match="grid of 7x8 patches is no multiple of the mask cell of 2x2"):
        coarse_mask(KEY, 1, (7, 8), 0.6, (2, 2))


def test_cells_that_would_all_be_masked_are_refused():
    with pytest.raises(ValueError, match="leaves none of the 9 mask cells visible"):
        coarse_mask(KEY, 1, (3, 3), 0.9, (1, 1))


@pytest.mark.parametrize("grid, ratio, missing", [((14, 14), 0.4, 15), ((8, 12), 0.5, 15), ((4, 4), 0.6, 4)])
def test_blocks_reach_the_target_or_nearly(grid, ratio, missing):
    masked = np.asarray(blockwise_mask(KEY, 200, grid, ratio)).sum(axis=1)
    target = int(ratio * grid[0] * grid[1])
    assert masked.max() == target
    assert masked.min() >= target - missing
    assert np.median(masked) >= target - 1


def test_a_block_as_large_as_the_target_is_one_rectangle():
    masks = np.asarray(blockwise_mask(KEY, 50, (10, 10), 0.25, min_patches=25, aspect=(1.0, 1.0))).reshape(-1, 10, 10)
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert np.ptp(rows) == np.ptp(columns) == 4 and mask.sum() == 25
    assert (masks.sum(axis=0) > 0).all()


def test_blocks_keep_to_their_aspect():
    wide = np.asarray(blockwise_mask(KEY, 20, (12, 12), 0.1, min_patches=14, aspect=(0.29, 0.29))).reshape(-1, 12, 12)
    assert {(int(mask.any(axis=1).sum()), int(mask.any(axis=0).sum())) for mask in wide} == {(2, 7)}


@pytest.mark.parametrize("grid", [(4, 6), (5, 5)])
def test_grid_masks_keep_one_patch_of_every_block(grid):
    quarter = np.asarray(grid_mask(KEY, 2, grid, 0.75)).reshape(2, *grid)
    half = np.asarray(grid_mask(KEY, 2, grid, 0.5)).reshape(2, *grid)
    assert not quarter[:, ::2, ::2].any() and quarter.sum() == quarter.size - quarter[:, ::2, ::2].size
    assert np.array_equal(half[0], np.indices(grid).sum(axis=0) % 2)


def test_a_grid_of_another_ratio_is_refused():
    with pytest.raises(ValueError, match="choose 0.75 or 0.5"):
        grid_mask(KEY, 1, (4, 4), 0.6)


@pytest.mark.parametrize("cell_size", PUBLISHED_DISTANCES)
def test_mask_distances_equal_the_published_ones(cell_size):
    side, (masks, tolerance) = 192 // cell_size, MASKS_AND_TOLERANCE[cell_size]
    published, ours = np.array(PUBLISHED_DISTANCES[cell_size]), []
    for tenths in range(1, len(published) + 1):
        mask = coarse_mask(jax.random.key(tenths), masks, (side, side), tenths / 10, (1, 1))
        ours.append(average_mask_distance(mask.reshape(masks, side, side), cell_size))
    np.testing.assert_allclose(ours, published, rtol=tolerance)
    assert np.mean(ours / published) == pytest.approx(1, abs=0.05)


def test_distance_is_measured_in_pixels():
    mask = np.zeros((1, 1, 2))
    mask[0, 0, 1] = 1
    assert average_mask_distance(mask, 1) == 1.0
    assert average_mask_distance(mask, 3) == 2.0  # columns at 1, 2 and 3 pixels


def test_blocks_hide_patches_further_from_the_visible_ones():
    uniform, blocks = (
        average_mask_distance(piece(KEY, 10, (14, 14), 0.6).reshape(10, 14, 14), 16)
        for piece in (uniform_mask, blockwise_mask)
    )
    assert blocks > 1.5 * uniform


@pytest.mark.parametrize("value", [0, 1])
def test_distance_needs_masked_and_visible_cells(value):
    mask = np.eye(3)[None].repeat(2, axis=0)
    mask[1] = value
    with pytest.raises(ValueError, match="undefined for a mask without"):
        average_mask_distance(mask, 4)
