"""Normalisation and what it is checked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.data import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, denormalise, normalise
from mim_jax.errors import InputError


def test_normalising_is_division_by_255_then_standardisation_per_channel():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    expected = (images / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    result = jax.jit(lambda x: normalise(x, IMAGENET_MEAN, IMAGENET_STD))(images)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_views_are_normalised_each():
    views = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 5, 3)).astype(np.uint8)
    expected = np.stack([normalise(jnp.asarray(views[:, k]), IMAGENET_MEAN, IMAGENET_STD) for k in range(2)], axis=1)
    np.testing.assert_array_equal(normalise(jnp.asarray(views), IMAGENET_MEAN, IMAGENET_STD), expected)


def test_denormalising_is_the_inverse():
    images = jnp.arange(48, dtype=jnp.uint8).reshape(1, 4, 4, 3)
    back = denormalise(normalise(images, IMAGENET_MEAN, IMAGENET_STD), IMAGENET_MEAN, IMAGENET_STD)
    np.testing.assert_allclose(back, images / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 1}, "need 1 numbers each"),
        ({"image_size": (0, 8)}, "must be positive"),
        ({"channels": 1, "mean": (0.5,), "std": (0.0,)}, "std .* must be positive"),
    ],
)
def test_inconsistent_preprocessing_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Preprocessing(**options)
