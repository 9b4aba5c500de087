"""Features on disk, choosing by held-out images, intervals."""

import numpy as np
import pytest

from mim_jax.data.arrays import open_digits
from mim_jax.data.subset import hold_out
from mim_jax.errors import InputError
from mim_jax.probing.cache import FeatureCache
from mim_jax.probing.selection import best_probe, grid, wilson_interval


def parts(start):
    for part in range(start, 4):
        yield {"mean": np.full((2, 3), part, np.float32), "label": np.full(2, part)}


def test_cache_goes_on_where_it_stopped(tmp_path):
    cache, asked = FeatureCache(tmp_path, "key"), []

    def interrupted(start):
        for part in parts(start):
            if part["label"][0] == 2:
                raise KeyboardInterrupt
            yield part

    with pytest.raises(KeyboardInterrupt):
        cache.collect(4, interrupted)

    def rest(start):
        asked.append(start)
        return parts(start)

    features = cache.collect(4, rest)
    assert asked == [2] and features["label"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    again = cache.collect(4, lambda start: pytest.fail("nothing is left to compute"))
    np.testing.assert_array_equal(again["mean"], features["mean"])


def test_damaged_part_of_a_cache_is_named(tmp_path):
    cache = FeatureCache(tmp_path, "key")
    cache.collect(4, parts)
    (tmp_path / "key" / "000001.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="000001.npz cannot be read as arrays"):
        cache.collect(4, parts)


def test_best_probe_is_the_first_of_equals():
    assert best_probe(np.array([3, 7, 7, 1])) == 1


def test_wilson_interval_has_its_published_values():
    low, high = wilson_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)  # Newcombe 1998, table I
    assert wilson_interval(0, 20)[0] == 0 and wilson_interval(20, 20)[1] == 1


def test_grid_has_every_pair():
    assert grid((1.0, 2.0), (0.0, 0.1)) == ((1.0, 1.0, 2.0, 2.0), (0.0, 0.1, 0.0, 0.1))


def test_held_out_part_and_the_rest_are_the_whole():
    source = open_digits("train")
    kept, held = hold_out(source, 0.1, seed=3)
    assert len(held) == round(0.1 * len(source))
    assert sorted([*kept.indices, *held.indices]) == list(range(len(source)))
    np.testing.assert_array_equal(hold_out(source, 0.1, seed=3)[1].indices, held.indices)
