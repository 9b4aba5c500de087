"""Patches: order, inverse, normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.ops.patches import denormalise_patches, normalise_patches, patch_grid, patchify, unpatchify

IMAGES = jax.random.normal(jax.random.key(0), (2, 6, 8, 3))


def test_unpatchify_undoes_patchify():
    assert np.array_equal(unpatchify(patchify(IMAGES, (2, 4)), (3, 2), (2, 4)), IMAGES)


def test_patches_run_row_major_over_row_column_channel():
    patches = patchify(IMAGES, (2, 4))
    assert np.array_equal(patches[0, 3].reshape(2, 4, 3), IMAGES[0, 2:4, 4:8])


def test_normalised_patches_have_mean_zero_and_unbiased_deviation_one():
    normalised = np.asarray(normalise_patches(patchify(IMAGES, (2, 4))))
    np.testing.assert_allclose(normalised.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(normalised.std(-1, ddof=1), 1, rtol=1e-5)


def test_denormalise_undoes_normalise():
    patches = patchify(IMAGES, (2, 4))
    np.testing.assert_allclose(denormalise_patches(normalise_patches(patches), patches), patches, atol=1e-5)


def test_constant_patch_stays_finite():
    assert not normalise_patches(jnp.ones((1, 1, 12))).any()


def test_image_not_divisible_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match="225x224 is not divisible by the patch size 16x16"):
        patch_grid((225, 224), (16, 16))
