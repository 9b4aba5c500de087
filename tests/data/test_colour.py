"""Colour augmentation: each operation by hand, then what is drawn."""

import colorsys
import math

import numpy as np
import pytest
from PIL import Image

from mim_jax.data import colour as c
from mim_jax.errors import InputError

CHANGES = dict(c.JITTER)
PICTURE = Image.new("RGB", (2, 2))


def noise(height=24, width=31):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def applied(function, *arguments, image=None):
    return np.asarray(function(Image.fromarray(noise() if image is None else image), *arguments)).astype(int)


def luma(image):
    """ITU-R 601-2 in 16 bits, rounded."""
    return (image.astype(int) @ (19595, 38470, 7471) + 0x8000) >> 16


# Each operation


@pytest.mark.parametrize("amount", [-0.4, -0.13, 0.0, 0.2, 0.4])
@pytest.mark.parametrize(
    ("name", "flat"),
    [
        ("brightness", lambda image: 0),
        ("contrast", lambda image: int(luma(image).mean() + 0.5)),
        ("saturation", lambda image: luma(image)[..., None]),
    ],
)
def test_a_change_moves_away_from_a_flat_image_by_its_factor(name, flat, amount):
    image = noise().astype(int)
    expected = np.clip(flat(image) + (1 + amount) * (image - flat(image)), 0, 255)
    result = applied(CHANGES[name], amount)
    assert np.abs(result - expected).max() <= 1  # PIL cuts decimals off
    assert amount != 0 or np.array_equal(result, image)


@pytest.mark.parametrize("turn", [-0.1, -0.003, 0.05, 0.1, 0.5])
def test_turning_the_hue_is_addition_modulo_256_in_hsv(turn):
    before = np.asarray(Image.fromarray(noise()).convert("HSV")).copy()
    before[..., 0] += np.array(math.trunc(turn * 255)).astype(np.uint8)
    expected = np.asarray(Image.merge("HSV", [Image.fromarray(before[..., k]) for k in range(3)]).convert("RGB"))
    np.testing.assert_array_equal(applied(c.turn_hue, turn), expected)


def test_turning_the_hue_of_saturated_colours_is_what_colorsys_says():
    grid = np.array([(r, g, b) for r in (10, 250) for g in (10, 120, 250) for b in (10, 250) if len({r, g, b}) > 1])
    turned = applied(c.turn_hue, 0.1, image=grid[None].astype(np.uint8))[0]
    for before, after in zip(grid / 255, turned):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb((hue + 25 / 256) % 1, saturation, value)
        np.testing.assert_allclose(after, np.multiply(expected, 255), atol=8)  # PIL's hue has 256 steps


def test_grayscale_is_luma_in_three_channels():
    np.testing.assert_array_equal(applied(c.grayscale), np.repeat(luma(noise())[..., None], 3, axis=2))


def test_solarization_inverts_values_from_128_on():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    expected = [value if value < 128 else 255 - value for value in range(256)]
    np.testing.assert_array_equal(applied(c.THREE[1], None, image=ramp)[0, :, 0], expected)


@pytest.mark.parametrize("seed", range(12))
def test_blur_is_nearly_gaussian_with_a_radius_from_a_tenth_to_two(seed):
    edge = np.zeros((20, 40, 3), np.uint8)
    edge[:, 20:] = 255
    radius = np.random.default_rng(seed).uniform(0.1, 2.0)
    expected = [127.5 * (1 + math.erf((x - 19.5) / radius / math.sqrt(2))) for x in range(40)]
    blurred = applied(c.blur, np.random.default_rng(seed), image=edge)[10, :, 0]
    assert np.abs(blurred - expected).max() < (5 if radius > 0.9 else 16)  # PIL blurs by three boxes


# What is drawn


@pytest.fixture
def drawn(monkeypatch):
    """Instead of changing pictures: the list of (name, amount) that would have been applied."""
    calls = []

    def recorder(name):
        return lambda picture, amount: calls.append((name, amount)) or picture

    monkeypatch.setattr(c, "JITTER", tuple((name, recorder(name)) for name, _ in c.JITTER))
    monkeypatch.setattr(c, "THREE", tuple(recorder(name) for name in ("grayscale", "solarize", "blur")))
    return calls


def test_jitter_makes_its_four_changes_in_every_order_evenly(drawn):
    for seed in range(2400):
        c.colour_jitter(PICTURE, np.random.default_rng(seed))
    orders = [tuple(name for name, _ in drawn[k : k + 4]) for k in range(0, len(drawn), 4)]
    assert all(set(order) == set(CHANGES) for order in orders)
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24 and min(counts) > 60 and max(counts) < 140  # 100 expected, four standard deviations


def test_amounts_of_jitter_are_uniform_in_their_ranges(drawn):
    rng = np.random.default_rng(0)
    for _ in range(2000):
        c.colour_jitter(PICTURE, rng)
    for name, spread in {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}.items():
        share = np.sort([(amount / spread + 1) / 2 for other, amount in drawn if other == name])
        assert np.abs(share - np.linspace(0, 1, 2000)).max() < 0.05


def test_three_augment_jitters_four_times_in_five_and_then_does_exactly_one_of_three(drawn):
    image, rng = noise(2, 2), np.random.default_rng(0)
    jittered, last = [], []
    for _ in range(3000):
        drawn.clear()
        c.three_augment(image, rng)
        jittered.append(len(drawn) == 5)
        last.append(drawn[-1][0])
        assert len(drawn) in (1, 5) and all(name in CHANGES for name, _ in drawn[:-1])
    assert abs(np.mean(jittered) - 0.8) < 0.03
    assert {name: round(3 * last.count(name) / 3000, 1) for name in set(last)} == dict(grayscale=1, solarize=1, blur=1)


def test_three_augment_is_a_pure_function_of_image_and_generator():
    image = noise()
    before = image.copy()
    first, again = (c.three_augment(image, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(image, before)
    assert first.shape == image.shape and first.dtype == np.uint8
    assert len({c.three_augment(image, np.random.default_rng(seed)).tobytes() for seed in range(20)}) > 17


def test_a_view_is_augmented_as_its_copy():
    view = noise()[3:20, 5:25]
    results = [c.three_augment(image, np.random.default_rng(1)) for image in (view, view.copy())]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_channels_are_refused(channels):
    with pytest.raises(
        InputError, match=f"needs images of 3 channels, but this one has {channels}: choose a transform"
    ):
        c.three_augment(np.zeros((4, 4, channels), np.uint8), np.random.default_rng(0))
