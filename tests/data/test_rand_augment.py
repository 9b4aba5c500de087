"""RandAugment: each operation by hand, then what is drawn."""

import math

import numpy as np
import pytest
from PIL import Image

from mim_jax.data import rand_augment as r
from mim_jax.errors import InputError

STRENGTHS = [0.0, 0.3, 0.9, 1.0]


def noise(height=24, width=31):
    return np.random.default_rng(0).integers(40, 220, (height, width, 3)).astype(np.uint8)


def applied(name, strength, image=None):
    return np.asarray(r.OPERATIONS[name](Image.fromarray(noise() if image is None else image), strength)).astype(int)


def test_there_are_fifteen_operations_nine_of_which_go_both_ways():
    assert len(r.OPERATIONS) == 15 and len(r.ONE_WAY) == 6 and len(r.TWO_WAY) == 9


# Operations on values


def test_auto_contrast_stretches_every_channel_to_the_whole_range():
    image = noise().astype(int)
    low, high = image.min((0, 1)), image.max((0, 1))
    expected = (image - low) * 255 / (high - low)
    assert np.abs(applied("auto_contrast", 0.5) - expected).max() <= 1


def test_equalizing_spreads_the_values_evenly():
    skewed = (255 * np.random.default_rng(0).random((64, 64, 3)) ** 3).astype(np.uint8)
    for channel in np.moveaxis(applied("equalize", 0.5, skewed), -1, 0):
        shares = np.histogram(channel, bins=4, range=(0, 256))[0] / channel.size
        assert np.abs(shares - 0.25).max() < 0.07  # a quarter of all values are below 4 and cannot be told apart


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("invert", lambda v, s: 255 - v),
        ("posterize", lambda v, s: v >> (4 + int(s * 4)) << (4 + int(s * 4))),
        ("solarize", lambda v, s: np.where(v < 256 - int(s * 256), v, 255 - v)),
        ("solarize_add", lambda v, s: np.where(v < 128, np.minimum(255, v + int(s * 110)), v)),
    ],
)
def test_an_operation_on_values_is_its_table(name, rule, strength):
    ramp = np.stack([np.arange(256)] * 3, -1).astype(np.uint8)[None]
    np.testing.assert_array_equal(applied(name, strength, ramp), rule(ramp.astype(int), strength))


def smoothed(image):
    """Eight neighbours count 1, the pixel itself 5; the border stays."""
    smooth = image.astype(float)
    height, width = image.shape[0] - 2, image.shape[1] - 2
    windows = [image[i : i + height, j : j + width].astype(int) for i in range(3) for j in range(3)]
    smooth[1:-1, 1:-1] = (np.sum(windows, 0) + 4 * windows[4]) / 13
    return smooth


def luma(image):
    return np.round(image @ (0.299, 0.587, 0.114))


@pytest.mark.parametrize("strength", [-1.0, -0.9, 0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("name", "flat"),
    [
        ("colour", lambda image: luma(image)[..., None]),
        ("contrast", lambda image: round(luma(image).mean())),
        ("brightness", lambda image: 0),
        ("sharpness", smoothed),
    ],
)
def test_an_enhancement_moves_away_from_a_flat_image_by_its_factor(name, flat, strength):
    image = noise().astype(int)
    expected = np.clip(flat(image) + (1 + 0.9 * strength) * (image - flat(image)), 0, 255)
    assert np.abs(applied(name, strength) - expected).max() < 2  # both images are rounded, and PIL cuts decimals off


# Operations on positions


def blob(column, row):
    """A smooth white spot on the colour that fills in from outside, 61 pixels high and 81 wide."""
    rows, columns = np.mgrid[:61, :81]
    spot = np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / 18)[..., None]
    return np.round(np.array(r.FILL) + spot * (255 - np.array(r.FILL))).astype(np.uint8)


def centre_of_mass(image):
    weights = np.maximum(0, image[..., 0] - r.FILL[0] - 2.0)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return (weights * columns).sum() / weights.sum(), (weights * rows).sum() / weights.sum()


@pytest.mark.parametrize("strength", [-0.6, 0.0, 0.2, 0.5])
@pytest.mark.parametrize(
    ("name", "move"),
    [
        ("shear_x", lambda x, y, s: (x - 0.3 * s * (y + 0.5), y)),
        ("shear_y", lambda x, y, s: (x, y - 0.3 * s * (x + 0.5))),
        ("translate_x", lambda x, y, s: (x - 0.45 * s * 81, y)),
        ("translate_y", lambda x, y, s: (x, y - 0.45 * s * 61)),
        (
            "rotate",
            lambda x, y, s: (
                40 + (x - 40) * math.cos(math.radians(30 * s)) + (y - 30) * math.sin(math.radians(30 * s)),
                30 + (y - 30) * math.cos(math.radians(30 * s)) - (x - 40) * math.sin(math.radians(30 * s)),
            ),
        ),
    ],
)
def test_an_operation_on_positions_moves_a_spot_where_it_should(name, move, strength):
    column, row = 42, 33
    moved = centre_of_mass(applied(name, strength, blob(column, row)))
    np.testing.assert_allclose(moved, move(column, row, strength), atol=0.25)


@pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"])
def test_what_comes_from_outside_has_the_mean_colour(name):
    corners = applied(name, 1.0, np.zeros((40, 40, 3), np.uint8))[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert any((corner == r.FILL).all() for corner in corners)


def test_half_a_pixel_is_interpolated_with_pils_cubic():
    image = noise(5, 40)
    shifted = applied("translate_x", 0.5 / (0.45 * 40), image)
    expected = sum(w * image[:, k : k + 37] for k, w in enumerate((-1 / 8, 5 / 8, 5 / 8, -1 / 8)))  # a = -1
    assert np.abs(shifted[:, 1:38] - expected).max() <= 1


@pytest.mark.parametrize("name", [*r.TWO_WAY, "solarize", "solarize_add"])
def test_no_strength_changes_nothing(name):
    np.testing.assert_array_equal(applied(name, 0.0), noise())


# What is drawn


def test_strengths_are_normal_around_the_magnitude_and_clipped():
    rng = np.random.default_rng(0)
    strengths = np.array([r.draw_strength("solarize", rng, 9.0, 0.5) for _ in range(4000)])
    assert abs(np.median(strengths) - 0.9) < 0.005 and abs(strengths.std() - 0.05) < 0.004
    assert strengths.max() == 1 and 0 < (strengths == 1).mean() < 0.05  # 2.3 % expected
    assert r.draw_strength("solarize", rng, 3.0, 0.0) == pytest.approx(0.3)
    assert min(r.draw_strength("solarize", rng, 0.1, 0.5) for _ in range(50)) == 0


@pytest.mark.parametrize("name", list(r.OPERATIONS))
def test_operations_that_go_both_ways_do_so_equally_often(name):
    rng = np.random.default_rng(0)
    negative = np.mean([r.draw_strength(name, rng, 9.0, 0.5) < 0 for _ in range(1000)])
    assert abs(negative - 0.5) < 0.07 if name in r.TWO_WAY else negative == 0


@pytest.fixture
def drawn(monkeypatch):
    """Instead of changing pictures: the list of (name, strength) that would have been applied."""
    calls = []

    def recorder(name):
        return lambda picture, strength: calls.append((name, strength)) or picture

    monkeypatch.setattr(r, "OPERATIONS", {name: recorder(name) for name in r.OPERATIONS})
    return calls


@pytest.mark.parametrize("number", [1, 2, 5])
def test_each_drawn_operation_is_applied_with_probability_a_half(drawn, number):
    image, rng = noise(2, 2), np.random.default_rng(0)
    counts = []
    for _ in range(2000):
        drawn.clear()
        r.rand_augment(image, rng, number=number)
        counts.append(len(drawn))
    expected = np.array([math.comb(number, k) for k in range(number + 1)]) / 2**number
    assert np.abs(np.bincount(counts, minlength=number + 1) / 2000 - expected).max() < 0.05


def test_operations_are_drawn_evenly_and_with_replacement(drawn):
    image, rng = noise(2, 2), np.random.default_rng(0)
    repeated = 0
    for _ in range(6000):
        before = len(drawn)
        r.rand_augment(image, rng)
        names = [name for name, _ in drawn[before:]]
        repeated += len(names) == 2 and names[0] == names[1]
    counts = [sum(name == other for other, _ in drawn) for name in r.OPERATIONS]
    assert min(counts) > 320 and max(counts) < 480  # 400 expected, four standard deviations
    assert 60 < repeated < 140  # 6000 / 4 / 15 = 100


def test_every_operation_draws_a_strength_of_its_own(drawn):
    r.rand_augment(noise(2, 2), np.random.default_rng(0), number=40)
    assert len({abs(strength) for _, strength in drawn if abs(strength) < 1}) > 10


def test_rand_augment_is_a_pure_function_of_image_and_generator():
    image = noise()
    before = image.copy()
    first, again = (r.rand_augment(image, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(image, before)
    assert first.shape == image.shape and first.dtype == np.uint8
    assert len({r.rand_augment(image, np.random.default_rng(seed)).tobytes() for seed in range(30)}) > 15


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_channels_are_refused(channels):
    with pytest.raises(InputError, match=f"of 3 channels, but this one has {channels}: set its magnitude"):
        r.rand_augment(np.zeros((4, 4, channels), np.uint8), np.random.default_rng(0))
