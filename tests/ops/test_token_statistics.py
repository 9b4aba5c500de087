"""Norms of tokens, outliers, variance and updates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.models.vit import VisionTransformer, VisionTransformerConfig
from mim_jax.ops.token_statistics import (
    CLIP_CUTOFF,
    DINOV2_CUTOFF,
    NORM_EDGES,
    feature_variance,
    magnitudes,
    norm_histogram,
    outlier_share,
    robust_limit,
    token_norms,
)
from tests.golden_cases import arrays, case, checkpoint, our_parameters, relative_error

GENERATOR = np.random.default_rng(0)
NORMS = jnp.asarray(GENERATOR.lognormal(3, 0.1, (2, 196)), jnp.float32)


def test_norms_are_euclidean_and_in_float32():
    tokens = jnp.asarray([[[3.0, 4.0], [0.0, 0.0], [300.0, 400.0]]])
    np.testing.assert_allclose(token_norms(tokens), [[5, 0, 500]])
    assert token_norms(tokens.astype(jnp.bfloat16)).dtype == jnp.float32


def test_the_limit_is_the_median_and_deviations_as_of_a_normal_distribution():
    values = np.asarray(NORMS, np.float64)
    median = np.median(values, axis=1)
    deviation = 1.4826 * np.median(np.abs(values - median[:, None]), axis=1)
    np.testing.assert_allclose(robust_limit(NORMS, 4.0)[:, 0], median + 4 * deviation, rtol=1e-5)
    normal = jnp.asarray(GENERATOR.normal(50, 2, (1, 4001)), jnp.float32)
    np.testing.assert_allclose(robust_limit(normal)[0, 0], 60, rtol=0.01)


def test_outliers_are_the_long_tokens():
    np.testing.assert_allclose(outlier_share(NORMS.at[1, :8].set(400.0)), [0, 8 / 196], rtol=1e-6)


def test_of_skewed_norms_hardly_any_is_an_outlier():
    norms = jnp.asarray(GENERATOR.lognormal(3, 0.3, (1, 50_000)), jnp.float32)
    assert 0 < float(outlier_share(norms)[0]) < 2e-3
    assert 5e-3 < float(outlier_share(norms, deviations=3.5)[0]) < 1.5e-2


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_outliers_do_not_depend_on_the_scale_of_tokens(scale):
    norms = NORMS.at[0, 3].set(500.0)
    np.testing.assert_array_equal(outlier_share(scale * norms), outlier_share(norms))


def test_equal_norms_have_no_outliers_even_with_rounding_or_at_zero():
    rounded = 7 * (1 + 1e-6 * jnp.arange(10.0) * jnp.asarray([0, 0, 0, 0, 0, 0, 0, 0, 1, 1]))
    norms = jnp.stack([jnp.full(10, 7.0), jnp.zeros(10), rounded])
    np.testing.assert_array_equal(outlier_share(norms), [0, 0, 0])
    np.testing.assert_allclose(outlier_share(norms.at[0, 0].set(14.0)), [0.1, 0, 0])


def test_an_absolute_cutoff_takes_the_place_of_the_rule():
    norms = jnp.asarray([[10.0, 30.0, 31.0, 151.0]])
    assert float(outlier_share(norms, cutoff=CLIP_CUTOFF)[0]) == 0.5
    assert float(outlier_share(norms, cutoff=DINOV2_CUTOFF)[0]) == 0.25


def test_edges_of_the_histogram_are_logarithmic_and_fixed():
    assert NORM_EDGES[0] == pytest.approx(1e-2) and NORM_EDGES[-1] == pytest.approx(1e5)
    np.testing.assert_allclose(NORM_EDGES[1:] / NORM_EDGES[:-1], 10**0.05, rtol=1e-12)
    with pytest.raises(ValueError, match="read-only"):
        NORM_EDGES[0] = 0


def test_the_histogram_is_that_of_numpy():
    counts = [np.histogram(row, NORM_EDGES)[0] / 196 for row in np.asarray(NORMS)]
    np.testing.assert_allclose(norm_histogram(NORMS), counts, atol=1e-7)


def test_norms_beyond_the_edges_are_in_the_end_bins():
    norms = jnp.asarray([[0.0, 0.5, 1.0, 9.9, 10.0, 1e9]])
    shares = norm_histogram(norms, np.asarray([1.0, 10.0, 100.0]))
    np.testing.assert_allclose(shares, [[4 / 6, 2 / 6]])
    np.testing.assert_allclose(norm_histogram(norms).sum(axis=-1), 1, rtol=1e-6)


def test_variance_is_over_positions_and_a_mean_over_channels():
    maps = GENERATOR.standard_normal((2, 3, 5, 4)).astype(np.float32) + 100
    expected = maps.astype(np.float64).var(axis=(1, 2)).mean(-1)
    np.testing.assert_allclose(feature_variance(jnp.asarray(maps)), expected, rtol=1e-5)
    np.testing.assert_array_equal(feature_variance(jnp.ones((1, 2, 2, 3))), [0])


def test_magnitudes_are_ratios_of_lengths_and_finite_for_no_input():
    block_input, branch = jnp.asarray([[[3.0, 4.0], [0.0, 0.0]]]), jnp.asarray([[[0.0, 10.0], [0.0, 1.0]]])
    np.testing.assert_allclose(magnitudes(block_input, branch), [[2, 1e6]], rtol=1e-6)


def test_magnitudes_equal_the_reference_of_beyond_cls():
    name = "beyond_cls_attention_statistics"
    golden, model = arrays(name), case(name)["model"]
    side, patch = model["img_size"], model["patch_size"]
    encoder = VisionTransformer(
        VisionTransformerConfig((side, side), (patch, patch), 3, model["embed_dim"], model["depth"], model["num_heads"])
    )
    parameters = our_parameters(checkpoint(name), model)["encoder"]
    images = jnp.asarray(golden["images"].transpose(0, 2, 3, 1))
    observe = lambda seen: magnitudes(seen.block_input, seen.branch_output)
    run = jax.jit(lambda images: encoder.apply({"params": parameters}, images, observer=observe).observations)
    norms = golden["magnitudes"].astype(np.float64)
    layers_first = np.moveaxis(norms[1] / (norms[0] + 1e-6), 1, 0)
    assert relative_error(run(images), layers_first) < 1e-5
