"""Log amplitudes of feature maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.ops import fourier
from mim_jax.ops.fourier import diagonal_frequencies
from tests.golden_cases import arrays, relative_error

log_amplitude_map, relative_log_amplitude = jax.jit(fourier.log_amplitude_map), jax.jit(fourier.relative_log_amplitude)

GOLDEN = arrays("clmim_fourier")


def maps(rows, columns, channels=3):
    values = np.random.default_rng(rows * columns).standard_normal((2, rows, columns, channels))
    return jnp.asarray(values, jnp.float32)


def plain_log_amplitudes(values):
    """Mean over channels of the log amplitude at every frequency, in float64, zero frequency at (0, 0)."""
    return np.log(np.abs(np.fft.fft2(np.asarray(values, np.float64), axes=(1, 2))) + 1e-6).mean(-1)


@pytest.mark.parametrize(("suffix", "side"), [("", 6), ("_other_parity", 7)])
def test_amplitudes_equal_the_reference_for_both_parities_of_the_grid(suffix, side):
    tokens = GOLDEN["tokens" + suffix]
    layers, images, _, width = tokens.shape
    values = jnp.asarray(tokens[:, :, 1:].reshape(-1, side, side, width))
    whole = np.asarray(log_amplitude_map(values)).reshape(layers, images, side, side).mean(1)
    relative = np.asarray(relative_log_amplitude(values)).reshape(layers, images, -1).mean(1)
    assert relative_error(whole, GOLDEN["log_amplitude_map" + suffix]) < 1e-5
    assert relative_error(relative, GOLDEN["delta_log_amplitude" + suffix]) < 1e-5
    assert relative_error(relative[:, -1], GOLDEN["highest_frequency" + suffix]) < 1e-5


@pytest.mark.parametrize("grid", [(6, 12), (12, 6), (3, 9)])
def test_a_side_that_is_a_multiple_of_the_other_has_every_bin(grid):
    values = maps(*grid)
    plain, shorter = plain_log_amplitudes(values), min(grid)
    steps = np.arange((shorter + 1) // 2)
    expected = plain[:, steps * grid[0] // shorter, steps * grid[1] // shorter]
    np.testing.assert_allclose(relative_log_amplitude(values), expected - expected[:, :1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", [(3, 4), (5, 7), (4, 7)])
def test_other_grids_are_summed_at_the_frequencies_of_the_shorter_side(grid):
    values = maps(*grid)
    along = np.add.outer(np.arange(grid[0]), np.arange(grid[1]))
    waves = np.exp(-1j * np.pi * diagonal_frequencies(grid)[:, None, None] * along)
    expected = np.log(np.abs(np.einsum("fyx,byxd->bfd", waves, np.asarray(values, np.float64))) + 1e-6).mean(-1)
    ours = relative_log_amplitude(values)
    np.testing.assert_allclose(ours, expected - expected[:, :1], rtol=1e-4, atol=1e-5)
    turned = relative_log_amplitude(values.swapaxes(1, 2))
    np.testing.assert_allclose(turned, ours, rtol=1e-4, atol=1e-5)


def test_frequencies_of_the_diagonal_end_below_pi():
    np.testing.assert_allclose(diagonal_frequencies((6, 6)), [0, 1 / 3, 2 / 3])
    np.testing.assert_allclose(diagonal_frequencies((9, 7)), [0, 2 / 7, 4 / 7, 6 / 7])
    assert relative_log_amplitude(maps(9, 7)).shape == (2, 4)


def test_a_constant_map_has_only_zero_frequency():
    relative = relative_log_amplitude(jnp.ones((1, 4, 6, 2)))
    assert float(relative[0, 0]) == 0 and float(relative[0, 1]) < -14


def test_a_column_of_patches_has_a_single_entry():
    np.testing.assert_array_equal(relative_log_amplitude(maps(1, 5)), np.zeros((2, 1)))


def test_bfloat16_maps_are_transformed_in_float32():
    values = maps(6, 6).astype(jnp.bfloat16)
    ours = relative_log_amplitude(values)
    assert ours.dtype == jnp.float32
    np.testing.assert_array_equal(ours, relative_log_amplitude(values.astype(jnp.float32)))
