"""Windows on a feature map."""

import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.ops.windows import (
    crop_map,
    cyclic_shift,
    fit_window,
    halved_grid,
    join_windows,
    merge_neighbours,
    pad_map,
    partition_windows,
    shift_mask,
)


def numbered(rows, columns, width=1):
    return jnp.arange(2.0 * rows * columns * width).reshape(2, rows, columns, width)


def test_windows_are_row_major_and_so_are_their_tokens():
    windows = partition_windows(numbered(4, 6), (2, 3))
    assert windows.shape == (2, 4, 6, 1)
    assert windows[0, :, :, 0].tolist() == [
        [0, 1, 2, 6, 7, 8],
        [3, 4, 5, 9, 10, 11],
        [12, 13, 14, 18, 19, 20],
        [15, 16, 17, 21, 22, 23],
    ]


@pytest.mark.parametrize("window", [(2, 3), (4, 2), (1, 6)])
def test_joining_undoes_partitioning(window):
    features = numbered(4, 6, 5)
    assert jnp.array_equal(join_windows(partition_windows(features, window), (4, 6), window), features)


def test_padding_is_zero_below_and_at_the_right_and_is_cropped_off():
    features = 1 + numbered(5, 7, 2)
    padded = pad_map(features, (3, 4))
    assert padded.shape == (2, 6, 8, 2)
    assert not padded[:, 5:].any() and not padded[:, :, 7:].any()
    assert jnp.array_equal(crop_map(padded, (5, 7)), features)
    assert pad_map(features, (5, 7)) is features


def test_shift_goes_up_and_left_and_back():
    features = numbered(4, 6)
    shifted = cyclic_shift(features, (1, 2))
    assert shifted[0, 0, 0, 0] == features[0, 1, 2, 0] and shifted[0, 3, 5, 0] == features[0, 0, 1, 0]
    assert jnp.array_equal(cyclic_shift(shifted, (-1, -2)), features)
    assert cyclic_shift(features, (0, 0)) is features


def test_a_traced_flag_decides_whether_to_shift():
    features = numbered(4, 6)
    assert jnp.array_equal(cyclic_shift(features, (1, 2), jnp.array(1)), cyclic_shift(features, (1, 2)))
    assert jnp.array_equal(cyclic_shift(features, (1, 2), jnp.array(0)), features)


def test_shift_mask_has_the_published_entries():
    mask = shift_mask((12, 12), (3, 3), (1, 1))
    assert mask.shape == (16, 1, 9, 9)
    assert set(np.unique(mask)) == {-100.0, 0.0}
    apart = (mask == -100).sum(axis=(1, 2, 3))
    assert apart.tolist() == [0, 0, 0, 36, 0, 0, 0, 36, 0, 0, 0, 36, 36, 36, 36, 56]


@pytest.mark.parametrize("window, shift", [((2, 3), (1, 1)), ((4, 3), (2, 1)), ((2, 4), (0, 2)), ((3, 3), (1, 1))])
def test_shift_mask_separates_exactly_what_was_apart(window, shift):
    rows, columns = grid = 3 * window[0], 2 * window[1]
    places = jnp.stack(jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij"), axis=-1)[None]
    places = places.astype(jnp.float32)
    windows = partition_windows(cyclic_shift(places, shift), window)[0]
    distance = jnp.abs(windows[:, :, None] - windows[:, None])
    together = (distance < jnp.asarray(window)).all(axis=-1)
    assert jnp.array_equal(shift_mask(grid, window, shift)[:, 0] == 0, together)


@pytest.mark.parametrize(
    "grid, window, fitted, shift",
    [
        ((56, 56), (7, 7), (7, 7), (3, 3)),
        ((7, 7), (7, 7), (7, 7), (0, 0)),
        ((6, 6), (12, 12), (6, 6), (0, 0)),
        ((6, 12), (12, 12), (6, 6), (0, 0)),
        ((6, 12), (6, 6), (6, 6), (0, 0)),
        ((8, 12), (4, 3), (4, 3), (2, 1)),
        ((2, 3), (2, 4), (2, 3), (0, 0)),
    ],
)
def test_window_is_cut_down_to_the_map(grid, window, fitted, shift):
    assert fit_window(grid, window) == (fitted, shift)


def test_merging_puts_rows_before_columns_and_fills_up_with_zeros():
    features = 1 + numbered(3, 5)
    merged = merge_neighbours(features)
    assert merged.shape[1:3] == halved_grid((3, 5)) == (2, 3)
    assert merged[0, 0, 0].tolist() == [1, 6, 2, 7]
    assert merged[0, 1, 0].tolist() == [11, 0, 12, 0]
    assert merged[0, 0, 2].tolist() == [5, 10, 0, 0]
