"""Random masks partition the patches and can be undone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.ops.masking import number_kept, random_mask, restore_tokens, take_tokens


def noise(batch=3, tokens=10):
    return jax.random.uniform(jax.random.key(0), (batch, tokens))


@pytest.mark.parametrize(
    "tokens, ratio, kept",
    [(196, 0.75, 49), (196, 0.6, 78), (196, 0.7, 58), (196, 0.8, 39), (196, 0.9, 19), (256, 0.75, 64)],
)
def test_number_kept_truncates_as_the_original(tokens, ratio, kept):
    assert number_kept(tokens, ratio) == kept


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75])
def test_kept_and_removed_partition_the_patches(ratio):
    mask = random_mask(noise(), ratio)
    for kept, removed in zip(mask.keep, mask.mask):
        assert set(np.asarray(kept)) == set(np.flatnonzero(removed == 0))
        assert removed.sum() == 10 - number_kept(10, ratio)


def test_restore_undoes_the_shuffle():
    tokens = jax.random.normal(jax.random.key(1), (3, 10, 4))
    mask = random_mask(noise(), 0.5)
    restored = restore_tokens(take_tokens(tokens, mask.keep), jnp.full(4, 7.0), mask.restore)
    expected = jnp.where(mask.mask[:, :, None] == 1, 7.0, tokens)
    assert np.array_equal(restored, expected)


def test_ratio_zero_keeps_everything_in_order():
    mask = random_mask(noise(), 0.0)
    assert np.array_equal(mask.keep, np.tile(np.arange(10), (3, 1)))
    assert not mask.mask.any()


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5])
def test_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(ValueError, match="out of range"):
        number_kept(10, ratio)


def test_ratio_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="leaves none of the 10 patches"):
        number_kept(10, 0.95)
