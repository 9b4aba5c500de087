"""How certain a mean is."""

import numpy as np
import pytest
import scipy.stats

from mim_jax.ops.intervals import interval_of_mean, student_factor, uncertainty


@pytest.mark.parametrize(
    "count, factor",
    [
        (2, 12.706),
        (3, 4.303),
        (5, 2.776),
        (10, 2.262),
        (11, 2.228),
        (21, 2.086),
        (31, 2.042),
        (61, 2.000),
        (121, 1.980),
    ],
)
def test_factors_are_those_of_students_table(count, factor):
    assert student_factor(count) == pytest.approx(factor, abs=5e-4)


def test_factors_of_all_counts_are_scipys_quantiles():
    counts = np.array([*range(2, 200), 10_000, 10_000_000])
    np.testing.assert_allclose(
        [student_factor(int(n)) for n in counts], scipy.stats.t.ppf(0.975, counts - 1), rtol=1e-9
    )


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_numbers_tell_nothing(count):
    assert np.isnan(student_factor(count))
    assert np.isnan(uncertainty(np.zeros(3), count)).all()


def test_interval_is_that_of_the_t_distribution():
    values = np.random.default_rng(0).normal(size=11)
    expected = scipy.stats.t.interval(0.95, 10, loc=values.mean(), scale=scipy.stats.sem(values))
    np.testing.assert_allclose(interval_of_mean(values), expected, rtol=1e-12)


def test_uncertainty_is_of_every_sum_of_squares():
    values = np.random.default_rng(0).normal(size=(7, 2, 3))
    error, half = uncertainty(np.square(values - values.mean(0)).sum(0), 7)
    np.testing.assert_allclose(error, scipy.stats.sem(values))
    np.testing.assert_allclose(half, 2.446912 * error, rtol=1e-6)
