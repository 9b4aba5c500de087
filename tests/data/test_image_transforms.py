"""Crops, resizing and flips: geometry as specified, pixels as PIL makes them."""

import math

import numpy as np
import pytest
from PIL import Image

from mim_jax.data import make_transform
from mim_jax.data import transforms as t
from mim_jax.data.rand_augment import rand_augment
from mim_jax.errors import InputError

RATIO = (3 / 4, 4 / 3)
COLOURED = ("lut_two_views", "supervised")


def _noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, channels)).astype(np.uint8)


def _bicubic_by_hand(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Separable antialiased Keys cubic (a = -1/2), normalised at the borders, one channel, not rounded."""
    for axis, length in ((1, size[1]), (0, size[0])):
        image = np.moveaxis(np.tensordot(_cubic_weights(image.shape[axis], length), image, (1, axis)), 0, axis)
    return image


def _cubic_weights(source: int, target: int) -> np.ndarray:
    scale = source / target
    centres = (np.arange(target)[:, None] + 0.5) * scale
    x = np.abs(np.arange(source)[None] + 0.5 - centres) / max(scale, 1)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)


# Resizing


@pytest.mark.parametrize("size", [(11, 17), (60, 31), (20, 90)])
def test_resizing_is_the_antialiased_cubic_with_a_half(size):
    image = (_noise(40, 53, 1) // 4 + 96).astype(np.uint8)  # no clipping, for rounding happens between the passes
    by_hand = _bicubic_by_hand(image[..., 0].astype(float), size)
    assert np.abs(t.resize(image, size)[..., 0] - by_hand).max() < 1.1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_resizing_gives_pils_bytes_for_every_channel(channels):
    image = _noise(30, 41, channels)
    expected = [np.asarray(Image.fromarray(image[..., k]).resize((17, 23), Image.BICUBIC)) for k in range(channels)]
    np.testing.assert_array_equal(t.resize(image, (23, 17)), np.stack(expected, -1))


def test_resizing_a_view_equals_resizing_its_copy():
    image = _noise(50, 60)
    view = image[7:40, 11:55]
    np.testing.assert_array_equal(t.resize(view, (16, 16)), t.resize(view.copy(), (16, 16)))


@pytest.mark.parametrize(
    ("shape", "size"), [((375, 500), (256, 341)), ((500, 333), (384, 256)), ((256, 300), (256, 300))]
)
def test_the_longer_side_is_rounded_down(shape, size):
    side = min(size)
    assert t.resize_to_cover(_noise(*shape), (side, side)).shape[:2] == size


@pytest.mark.parametrize(
    ("shape", "wanted", "size"),
    [
        ((40, 20), (16, 32), (64, 32)),
        ((20, 40), (16, 32), (16, 32)),
        ((10, 40), (16, 32), (16, 64)),
        ((30, 44), (16, 24), (16, 24)),
    ],
)
def test_a_rectangle_is_covered_without_a_change_of_aspect(shape, wanted, size):
    assert t.resize_to_cover(_noise(*shape), wanted).shape[:2] == size


# Random resized crop


def test_a_crop_follows_the_rule_draw_by_draw():
    height, width = 375, 500
    for seed in range(200):
        box = t.random_resized_crop_box(height, width, (0.2, 1.0), RATIO, np.random.default_rng(seed))
        assert box == _crop_by_the_rule(height, width, (0.2, 1.0), np.random.default_rng(seed))


def _crop_by_the_rule(height, width, scale, rng):
    for _ in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * rng.random())
        aspect = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * rng.random())
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if w <= width and h <= height:
            return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    raise AssertionError("no crop fitted")


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (64, 64), (8, 8), (1, 1), (5, 400)])
def test_crops_stay_inside_the_image_and_the_ranges(shape):
    height, width = shape
    rng = np.random.default_rng(0)
    for _ in range(500):
        top, left, h, w = t.random_resized_crop_box(height, width, (0.2, 1.0), RATIO, rng)
        assert 0 <= top <= height - h and 0 <= left <= width - w and h > 0 and w > 0
        if min(shape) > 60:  # rounding to whole pixels moves both by no more than this
            assert 0.19 < h * w / (height * width) <= 1 and 0.735 < w / h < 1.36


def test_area_and_position_of_crops_are_uniform_and_aspect_is_log_uniform():
    rng = np.random.default_rng(1)
    boxes = np.array([t.random_resized_crop_box(1000, 1000, (0.1, 0.5), RATIO, rng) for _ in range(4000)])
    top, left, h, w = boxes.T
    for values, low, high in (
        (h * w / 1e6, 0.1, 0.5),
        (np.log(w / h), *np.log(RATIO)),
        (top / (1000 - h), 0, 1),
        (left / (1000 - w), 0, 1),
    ):
        share = np.sort((values - low) / (high - low))
        assert np.abs(share - np.linspace(0, 1, len(share))).max() < 0.04  # Kolmogorov-Smirnov, p < 1e-5


@pytest.mark.parametrize(
    ("shape", "box"), [((10, 400), (0, 193, 10, 13)), ((400, 10), (193, 0, 13, 10)), ((100, 120), (0, 0, 100, 120))]
)
def test_where_no_draw_fits_the_crop_is_central_with_the_nearest_aspect(shape, box):
    too_large = (4.0, 5.0)  # of the area: never fits
    assert t.random_resized_crop_box(*shape, too_large, RATIO, np.random.default_rng(0)) == box


def test_pretraining_crops_before_it_resizes():
    image = _noise(90, 120)
    transform = make_transform("mae_pretrain", image_size=(32, 32))
    mirrored = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        top, left, h, w = t.random_resized_crop_box(90, 120, (0.2, 1.0), RATIO, rng)
        expected = Image.fromarray(image).crop((left, top, left + w, top + h)).resize((32, 32), Image.BICUBIC)
        mirrored.append(rng.random() < 0.5)
        if mirrored[-1]:
            expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        np.testing.assert_array_equal(transform(image, np.random.default_rng(seed)), np.asarray(expected))
    assert 4 < sum(mirrored) < 16


def test_simmims_crop_is_bilinear():
    image = _noise(90, 120)
    transform = make_transform("mae_pretrain", image_size=(32, 24), interpolation="bilinear", flip_probability=0.0)
    top, left, h, w = t.random_resized_crop_box(90, 120, (0.2, 1.0), RATIO, np.random.default_rng(3))
    expected = Image.fromarray(image).crop((left, top, left + w, top + h)).resize((24, 32), Image.BILINEAR)
    np.testing.assert_array_equal(transform(image, np.random.default_rng(3)), np.asarray(expected))


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_flips_come_with_their_probability(probability):
    image, rng = _noise(4, 6), np.random.default_rng(0)
    results = [t.flip(image, probability, rng) for _ in range(400)]
    share = np.mean([np.array_equal(result, image[:, ::-1]) for result in results])
    assert all(np.array_equal(r, image) or np.array_equal(r, image[:, ::-1]) for r in results)
    assert abs(share - probability) < 0.1 * (probability == 0.5) + 1e-9


# Linear probe


def test_the_one_shot_crop_clamps_instead_of_drawing_again():
    seen_clamped = False
    for seed in range(300):
        top, left, h, w = t.one_shot_crop_box(60, 200, (0.08, 1.0), RATIO, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        area = 60 * 200 * rng.uniform(0.08, 1.0)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        assert (h, w) == (min(round(math.sqrt(area / aspect)), 60), min(round(math.sqrt(area * aspect)), 200))
        assert 0 <= top <= 60 - h and 0 <= left <= 200 - w
        seen_clamped |= math.sqrt(area / aspect) > 61
    assert seen_clamped


def test_the_linear_probe_transform_is_crop_resize_flip():
    image = _noise(60, 80)
    rng = np.random.default_rng(5)
    top, left, h, w = t.one_shot_crop_box(60, 80, (0.08, 1.0), RATIO, rng)
    expected = np.asarray(Image.fromarray(image).crop((left, top, left + w, top + h)).resize((24, 24), Image.BICUBIC))
    expected = expected[:, ::-1] if rng.random() < 0.5 else expected
    transform = make_transform("linear_probe", image_size=(24, 24))
    np.testing.assert_array_equal(transform(image, np.random.default_rng(5)), expected)


# Evaluation


@pytest.mark.parametrize(
    ("size", "shape", "resized", "corner"),
    [
        (224, (375, 500), (256, 341), (16, 58)),  # (341 - 224) / 2 = 58.5 rounds to even
        (224, (500, 375), (341, 256), (58, 16)),
        (192, (300, 300), (219, 219), (14, 14)),  # int(192 / 0.875) = 219; 13.5 rounds to even
        (448, (500, 600), (448, 537), (0, 44)),  # above 224 the shorter side is the size itself
    ],
)
def test_evaluation_resizes_the_shorter_side_and_crops_the_centre(size, shape, resized, corner):
    image = _noise(*shape)
    whole = np.asarray(Image.fromarray(image).resize(resized[::-1], Image.BICUBIC))
    expected = whole[corner[0] : corner[0] + size, corner[1] : corner[1] + size]
    np.testing.assert_array_equal(make_transform("evaluation", image_size=(size, size))(image), expected)


def test_evaluation_of_a_rectangle_is_its_middle_at_the_right_aspect():
    image = _noise(60, 100)
    resized = t.resize(image, (35, 58))  # covers 35x53, which are 32x48 over 0.9
    top, left = round((resized.shape[0] - 32) / 2), round((resized.shape[1] - 48) / 2)
    transform = make_transform("evaluation", image_size=(32, 48), crop_fraction=0.9)
    np.testing.assert_array_equal(transform(image), resized[top : top + 32, left : left + 48])


def test_evaluation_without_a_margin_keeps_images_that_have_the_size():
    image = _noise(32, 32)
    transform = make_transform("evaluation", image_size=(32, 32), crop_fraction=1.0)
    np.testing.assert_array_equal(transform(image), image)
    assert not np.array_equal(make_transform("evaluation", image_size=(32, 32))(image), image)


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (700, 20)])
def test_evaluation_takes_any_size(shape):
    assert make_transform("evaluation", image_size=(16, 16))(_noise(*shape)).shape == (16, 16, 3)


# Small images


def test_the_padded_crop_is_a_window_of_the_reflected_image():
    image = _noise(32, 32)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = {padded[i : i + 32, j : j + 32].tobytes(): (i, j) for i in range(9) for j in range(9)}
    transform = make_transform("random_crop_padded", image_size=(32, 32), flip_probability=0.0)
    seen = {windows[transform(image, np.random.default_rng(seed)).tobytes()] for seed in range(500)}
    assert len(seen) > 75  # of 81


def test_the_padded_crop_moves_along_the_longer_side():
    image = _noise(32, 96)
    transform = make_transform("random_crop_padded", image_size=(32, 32), flip_probability=0.0, padding=0)
    windows = {image[:, j : j + 32].tobytes(): j for j in range(65)}
    assert {windows[transform(image, np.random.default_rng(seed)).tobytes()] for seed in range(600)} == set(range(65))


# LUT's two views


def _windows(image: np.ndarray) -> set[bytes]:
    """Every 32x32 window of the reflected image, and its mirror image."""
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = [padded[i : i + 32, j : j + 32] for i in range(9) for j in range(9)]
    return {view.tobytes() for window in windows for view in (window, window[:, ::-1])}


def test_the_first_view_is_the_padded_crop():
    image = _noise(40, 56)
    pair, single = (make_transform(name, image_size=(32, 32)) for name in ("lut_two_views", "random_crop_padded"))
    for seed in range(10):
        first = pair(image, np.random.default_rng(seed))[0]
        np.testing.assert_array_equal(first, single(image, np.random.default_rng(seed)))


def test_the_second_view_is_another_padded_crop_before_its_colours_change(monkeypatch):
    image = _noise(32, 32)
    transform, windows = make_transform("lut_two_views", image_size=(32, 32)), _windows(_noise(32, 32))
    with monkeypatch.context() as patched:
        patched.setattr(t, "three_augment", lambda view, rng: view)
        plain = [transform(image, np.random.default_rng(seed)) for seed in range(300)]
    assert all(view.tobytes() in windows for pair in plain for view in pair)
    assert np.mean([np.array_equal(*pair) for pair in plain]) < 0.04  # 1 / 162 expected
    changed = [transform(image, np.random.default_rng(seed)) for seed in range(30)]
    assert not any(pair[1].tobytes() in windows for pair in changed)
    for before, after in zip(plain, changed):
        np.testing.assert_array_equal(before[0], after[0])


# Fine-tuning


def test_without_rand_augment_fine_tuning_crops_as_pretraining_but_smaller():
    image = _noise(60, 80, 1)
    fine_tuning = make_transform("supervised", image_size=(24, 32), magnitude=0.0)
    pretraining = make_transform("mae_pretrain", image_size=(24, 32), scale=(0.08, 1.0))
    for seed in range(10):
        results = [transform(image, np.random.default_rng(seed)) for transform in (fine_tuning, pretraining)]
        np.testing.assert_array_equal(*results)


def test_fine_tuning_ends_with_rand_augment():
    image = _noise(60, 80)
    transform, crop = (make_transform("supervised", image_size=(24, 24), magnitude=m) for m in (7.0, 0.0))
    for seed in range(10):
        rng = np.random.default_rng(seed)
        expected = rand_augment(crop(image, rng), rng, magnitude=7.0)
        np.testing.assert_array_equal(transform(image, np.random.default_rng(seed)), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [("lut_two_views", "choose a transform without it"), ("supervised", "set its magnitude to 0 to switch it off")],
)
def test_changing_colours_needs_three_channels(name, message):
    with pytest.raises(InputError, match=f"needs images of 3 channels, but this one has 1: {message}"):
        make_transform(name, image_size=(16, 16))(_noise(30, 44, 1), np.random.default_rng(0))


# Any image


def test_none_keeps_the_image():
    image = _noise(8, 8, 1)
    assert make_transform("none", image_size=(8, 8))(image) is image


# All of them


@pytest.mark.parametrize("size", [(16, 16), (8, 24), (24, 8)])
@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, channels) for name in t.TRANSFORMS for channels in (1, 3) if channels == 3 or name not in COLOURED],
)
def test_every_transform_is_pure_and_has_the_size(name, channels, size):
    shape = size if name == "none" else (30, 44)
    image = _noise(*shape, channels)
    before = image.copy()
    transform = make_transform(name, image_size=size)
    first, second = (transform(image, np.random.default_rng(7)) for _ in range(2))
    views = (2,) if name == "lut_two_views" else ()
    assert first.shape == (*views, *size, channels) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, before)
    differs = any(not np.array_equal(transform(image, np.random.default_rng(s)), first) for s in range(10))
    assert differs == transform.random


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mae_pretran", {}, "'mae_pretran' is no transform; did you mean 'mae_pretrain'"),
        ("xyz", {}, "known are none, mae_pretrain"),
        ("mae_pretrain", {"scal": (0.2, 1.0)}, "no option of the transform 'mae_pretrain'; did you mean 'scale'"),
        ("none", {"padding": 3}, "'padding' is no option of the transform 'none'"),
        ("mae_pretrain", {"scale": (0.0, 1.0)}, "scale of the transform 'mae_pretrain' must be two numbers"),
        ("mae_pretrain", {"scale": (0.5, 0.2)}, "must be two numbers 0 < low <= high <= 1"),
        ("mae_pretrain", {"interpolation": "cubic"}, "must be 'bicubic' or 'bilinear', not 'cubic'"),
        ("mae_pretrain", {"flip_probability": 1.5}, "must be a number from 0 to 1"),
        ("evaluation", {"crop_fraction": 1.2}, "crop_fraction .* must be None or a number above 0, up to 1"),
        ("random_crop_padded", {"padding": -1}, "padding .* must be a whole number"),
        (
            "supervised",
            {"magnitude": 11},
            r"magnitude .* must be a number from 0 \(off\) to 10",
        ),
        ("lut_two_views", {"scale": (0.2, 1.0)}, "'scale' is no option of the transform 'lut_two_views'"),
    ],
)
def test_mistakes_are_one_sentence(name, options, message):
    with pytest.raises(InputError, match=message):
        make_transform(name, image_size=(16, 16), **options)


def test_none_names_both_sizes():
    with pytest.raises(InputError, match="wants images of 16x16 pixels, but this one has 8x9"):
        make_transform("none", image_size=(16, 16))(_noise(8, 9))
