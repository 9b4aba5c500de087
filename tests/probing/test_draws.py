"""Few-shot draws and the held-out part."""

import numpy as np
import pytest

from mim_jax.probing.draws import draw_per_class, hold_out

LABELS = np.random.default_rng(3).integers(0, 5, 200)


@pytest.mark.parametrize("count", [1, 5, 10])
def test_draw_has_the_count_of_every_class(count: int):
    indices = draw_per_class(LABELS, count, seed=0)
    assert len(set(indices)) == len(indices)
    np.testing.assert_array_equal(np.bincount(LABELS[indices]), np.full(5, count))


def test_draws_repeat_with_their_seed_and_differ_between_draws_and_seeds():
    first = draw_per_class(LABELS, 5, seed=0, draw=1)
    np.testing.assert_array_equal(first, draw_per_class(LABELS, 5, seed=0, draw=1))
    for other in (draw_per_class(LABELS, 5, seed=0, draw=2), draw_per_class(LABELS, 5, seed=1, draw=1)):
        assert set(first) != set(other)


def test_larger_draw_contains_the_smaller():
    assert set(draw_per_class(LABELS, 1, seed=4)) < set(draw_per_class(LABELS, 5, seed=4))


def test_every_image_of_a_class_can_be_drawn():
    drawn = {index for draw in range(200) for index in draw_per_class(LABELS, 1, seed=0, draw=draw)}
    assert drawn > set(np.flatnonzero(LABELS == 2))


def test_held_out_part_takes_the_fraction_of_every_class_and_at_least_one():
    labels = np.repeat([0, 1, 3], [100, 30, 2])
    held_out = hold_out(labels, 0.1, seed=0)
    np.testing.assert_array_equal(np.bincount(labels[held_out]), [10, 3, 0, 1])
