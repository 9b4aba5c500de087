"""A random part of a source is fixed by its seed."""

from mim_jax.data import open_source
from mim_jax.data.subset import random_subset


def test_subset_shows_the_records_that_it_describes():
    digits = open_source("digits", "train")
    part = random_subset(digits, 50, seed=3)
    assert len(part) == 50 and part.class_names == digits.class_names
    described = [part.describe(index) for index in range(50)]
    assert described == [digits.describe(int(index)) for index in part.indices]
    assert all((part[i]["image"] == digits[int(part.indices[i])]["image"]).all() for i in range(50))


def test_same_seed_gives_the_same_part_and_each_record_once():
    digits = open_source("digits", "train")
    one, same, other = (random_subset(digits, 50, seed).indices.tolist() for seed in (3, 3, 4))
    assert one == same != other and len(set(one)) == 50


def test_whole_source_is_kept_as_it_is():
    digits = open_source("digits", "test")
    assert random_subset(digits, 0, 0) is random_subset(digits, 360, 0) is digits
