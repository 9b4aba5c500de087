"""Spectra and soft ranks against golden numbers, definitions and spectra that are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.ops.spectra import (
    alpha_req,
    covariance_spectrum,
    effective_rank,
    factor_singular_values,
    lidar,
    log_spectrum,
    merge_factors,
    participation_ratio,
    rankme,
    rankme_centered,
    singular_values,
    token_log_spectrum,
    top_singular_shares,
    triangular_factor,
)
from tests.golden_cases import arrays

CASE = arrays("representation_statistics")


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def single(value):
    return jnp.asarray(value, jnp.float32)


def with_spectrum(sigma, rows, width):
    """A float64 matrix with these singular values whose rows have mean zero."""
    left = np.linalg.qr(np.column_stack([np.ones(rows), normal(0, rows, len(sigma))]))[0][:, 1:]
    return left * sigma @ np.linalg.qr(normal(1, width, len(sigma)))[0].T


def exact_values(x, centred=True):
    return np.linalg.svd(x - x.mean(0) if centred else x, compute_uv=False)


def test_singular_values_equal_the_golden_ones():
    found = singular_values(single(CASE["x"]), centred=True)
    np.testing.assert_allclose(found, CASE["singular_values"], rtol=1e-5)


@pytest.mark.parametrize("statistic", [effective_rank, participation_ratio])
def test_soft_ranks_equal_the_golden_ones(statistic):
    found = jax.jit(statistic)(singular_values(single(CASE["x"]), centred=True))
    np.testing.assert_allclose(found, CASE[statistic.__name__], rtol=1e-5)


def test_rankme_equals_the_golden_one():
    np.testing.assert_allclose(jax.jit(rankme)(single(CASE["x"])), CASE["rankme"], rtol=1e-5)


def test_centred_rankme_is_the_effective_rank_but_for_its_epsilon():
    np.testing.assert_allclose(rankme_centered(single(CASE["x"])), CASE["effective_rank"], rtol=2e-5)


def test_equal_singular_values_count_fully_and_a_single_one_once():
    isotropic, direction = single(np.linalg.qr(normal(0, 40, 12))[0]), single(np.outer(normal(1, 40), normal(2, 12)))
    np.testing.assert_allclose(rankme(isotropic), 12, rtol=1e-5)
    np.testing.assert_allclose(participation_ratio(singular_values(isotropic, centred=False)), 12, rtol=1e-5)
    np.testing.assert_allclose(rankme(direction), 1, rtol=1e-3)
    np.testing.assert_allclose(participation_ratio(singular_values(direction, centred=False)), 1, rtol=1e-5)


def test_singular_values_of_one_over_i_have_the_ranks_of_their_formula():
    sigma = single(1 / np.arange(1, 769))
    np.testing.assert_allclose(effective_rank(sigma), 151.97, atol=0.01)
    np.testing.assert_allclose(effective_rank(jnp.square(sigma)), 5.08, atol=0.005)
    np.testing.assert_allclose(participation_ratio(sigma), 2.50, atol=0.005)
    with_a_mean_of_one_half = jnp.append(sigma, 0.5 * 768**0.5)
    np.testing.assert_allclose(effective_rank(with_a_mean_of_one_half, 1e-7), 10.5, atol=0.2)


def test_common_mean_lowers_rankme_but_not_its_centred_form():
    x = with_spectrum(1 / np.arange(1, 49), 100, 48)
    shifted = single(x + normal(3, 48))
    np.testing.assert_allclose(rankme_centered(shifted), rankme(single(x)), rtol=1e-5)
    assert rankme(shifted) < rankme(single(x)) / 3


def test_soft_ranks_ignore_rotations_and_scale():
    x, rotation = normal(0, 30, 12), np.linalg.qr(normal(1, 12, 12))[0]
    for statistic in (rankme, rankme_centered):
        np.testing.assert_allclose(statistic(single(1e6 * x @ rotation)), statistic(single(x)), rtol=1e-5)


def test_soft_ranks_of_zeros_are_finite():
    zeros = jnp.zeros((6, 4))
    values = (rankme(zeros), effective_rank(zeros[0]), participation_ratio(zeros[0]), log_spectrum(zeros).sum())
    assert np.isfinite(values).all()


def test_covariance_spectrum_is_that_of_the_covariance():
    x = normal(0, 30, 8) + 5
    expected = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    np.testing.assert_allclose(covariance_spectrum(single(x)), expected, rtol=1e-5)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_exponent_of_a_power_law_is_recovered(exponent: float):
    fit = alpha_req(np.arange(1, 601.0) ** -exponent)
    np.testing.assert_allclose(fit.alpha, exponent, rtol=1e-9)
    assert (fit.first, fit.last) == (11, 500)


def test_exponent_is_recovered_from_features():
    x = with_spectrum(np.arange(1, 41.0) ** -0.75, 90, 60)
    fit = alpha_req(covariance_spectrum(single(x + 3)))
    np.testing.assert_allclose(fit.alpha, 1.5, rtol=1e-4)
    assert (fit.first, fit.last) == (11, 40), "eigenvalues that are zero but for rounding must not be fitted"


@pytest.mark.parametrize("shape", [(40, 24), (10, 24)])
def test_log_spectrum_is_that_of_the_centred_rows(shape: tuple):
    x = normal(0, *shape) + 7
    sigma = exact_values(x)[: min(shape[0] - 1, shape[1])]
    np.testing.assert_allclose(log_spectrum(single(x)), np.log(sigma / sigma[0]), atol=1e-5)


def test_log_spectrum_of_tokens_is_told_by_image():
    tokens = normal(0, 3, 9, 16)
    found = token_log_spectrum(single(tokens))
    assert found.shape == (3, 8)
    np.testing.assert_allclose(found[1], log_spectrum(single(tokens[1])), atol=1e-6)


def test_log_spectrum_ends_at_what_float32_resolves():
    found = log_spectrum(single(np.outer(np.arange(8), normal(0, 5))))
    np.testing.assert_allclose(found, [0, *[np.log(np.finfo(np.float32).eps)] * 4], atol=1)


def exact_shares(tokens, k):
    sigma = exact_values(tokens / np.linalg.norm(tokens, axis=1, keepdims=True), centred=False)
    return np.cumsum(sigma)[:k] / sigma.sum()


@pytest.mark.parametrize("shape", [(20, 32), (32, 20)])
@pytest.mark.parametrize(("spread", "tolerance"), [(1.0, 5e-6), (1e-2, 5e-6), (1e-4, 3e-4), (1e-6, 5e-6)])
def test_top_singular_shares_equal_their_definition_also_when_tokens_collapse(shape, spread, tolerance):
    tokens = (normal(0, 1, shape[1]) + spread * normal(1, 2, *shape)).astype(np.float32)
    found = jax.jit(top_singular_shares)(single(tokens))
    for image, shares in zip(tokens.astype(np.float64), found):
        np.testing.assert_allclose(shares, exact_shares(image, 5), rtol=tolerance)


def test_top_singular_shares_ignore_the_lengths_of_tokens():
    tokens = normal(0, 2, 20, 32)
    longer = tokens * np.arange(1, 21)[:, None]
    np.testing.assert_allclose(
        top_singular_shares(single(longer), 3), top_singular_shares(single(tokens), 3), rtol=1e-5
    )


def exact_lidar(views, delta=1e-4, epsilon=1e-8):
    n, v, _ = views.shape
    means = views.mean(1)
    between = np.cov(means.T)
    within = sum(np.cov(image.T, bias=True) for image in views) * v / (n * (v - 1)) + delta * np.eye(len(between))
    values, vectors = np.linalg.eigh(within)
    root = vectors / np.sqrt(values) @ vectors.T
    eigenvalues = np.maximum(np.linalg.eigvalsh(root @ between @ root), 0)
    shares = eigenvalues / eigenvalues.sum() + epsilon
    return np.exp(-np.sum(shares * np.log(shares)))


@pytest.mark.parametrize("shape", [(30, 5, 12), (8, 3, 12)])
def test_lidar_equals_its_definition(shape: tuple):
    n, v, d = shape
    views = 3 * normal(0, n, 1, d) + normal(1, n, v, d) * np.geomspace(1e-2, 10, d)
    np.testing.assert_allclose(jax.jit(lidar)(single(views)), exact_lidar(views), rtol=1e-5)


def test_lidar_with_fewer_views_than_dimensions_stays_exact():
    views = 30 * normal(0, 4, 1, 20) + 10 * normal(1, 4, 2, 20)
    np.testing.assert_allclose(lidar(single(views)), exact_lidar(views), rtol=1e-4)


def test_lidar_counts_the_directions_that_tell_images_apart():
    corners = np.concatenate([np.eye(4), -np.eye(4)])
    views = corners[:, None] + 1e-3 * normal(0, 8, 200, 4)
    np.testing.assert_allclose(lidar(single(views)), 4, rtol=1e-2)
    np.testing.assert_allclose(lidar(single(views * [1, 1, 0, 0])), 2, rtol=1e-2)


def merged(x, cuts):
    factors = [jax.jit(triangular_factor)(single(part)) for part in np.split(x, cuts)]
    return functools.reduce(merge_factors, factors)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("offset", [0, 30])
@pytest.mark.parametrize("cuts", [(), (20, 40), (3, 10, 55)])
def test_merged_factors_have_the_singular_values_of_all_rows(cuts: tuple, offset: float, centred: bool):
    x = (normal(0, 60, 12) * np.geomspace(1, 0.1, 12) + offset * normal(1, 12)).astype(np.float32)
    found = factor_singular_values(merged(x, cuts), centred)
    expected = exact_values(x.astype(np.float64), centred)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * expected[0])


def test_order_in_which_factors_are_merged_does_not_matter():
    one, two = (triangular_factor(single(part)) for part in np.split(normal(0, 40, 6) + 4, [15]))
    for centred in (True, False):
        forth, back = (factor_singular_values(merge_factors(*pair), centred) for pair in ((one, two), (two, one)))
        np.testing.assert_allclose(forth, back, rtol=2e-6)


def test_rows_that_fill_a_batch_are_left_out_of_factors():
    x, valid = normal(0, 16, 6), np.arange(16) % 3 != 0
    filled = triangular_factor(single(np.where(valid[:, None], x, np.nan)), jnp.asarray(valid))
    empty = triangular_factor(jnp.full((4, 6), jnp.nan), jnp.zeros(4, bool))
    for factor in (filled, merge_factors(empty, filled), merge_factors(filled, empty)):
        assert factor.rows == valid.sum()
        for centred in (True, False):
            expected = exact_values(x[valid], centred)
            np.testing.assert_allclose(factor_singular_values(factor, centred), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: alpha_req(np.ones(12)), r"eigenvalues 11 to 12 \(rank 12\)"),
        (lambda: alpha_req(np.zeros(600)), "rank 0"),
        (lambda: alpha_req(np.ones(40), first=0), "range from 1 on"),
        (lambda: lidar(jnp.ones((1, 5, 3))), "1 images with 5 views each; give it 2 images"),
        (lambda: lidar(jnp.ones((5, 1, 3))), "2 views at least"),
        (lambda: top_singular_shares(jnp.ones((1, 4, 8))), "from 1 to 4"),
    ],
)
def test_impossible_requests_are_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
