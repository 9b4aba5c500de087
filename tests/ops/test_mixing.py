"""Random erasing, mixup and cutmix: against plain numpy given what was drawn, and the draws against their rules."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mim_jax.ops import mixing as m

AREA, ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)
KEYS = jax.random.split(jax.random.key(0), 2000)

draw_erased = jax.jit(m.draw_erased, static_argnums=(1, 2, 3, 4, 5))
random_erasing = jax.jit(m.random_erasing, static_argnums=(2, 3, 4))


def images(batch=6, height=10, width=14, channels=3):
    return jax.random.normal(jax.random.key(1), (batch, height, width, channels))


def farthest_from_uniform(values, low, high):
    """Kolmogorov and Smirnov's distance."""
    share = np.sort((np.asarray(values, np.float64) - low) / (high - low))
    return np.abs(share - np.linspace(0, 1, len(share))).max()


# Random erasing


def test_erasing_puts_noise_into_the_boxes_only():
    batch, noise = images(), jnp.full((6, 10, 14, 3), 9.0)
    boxes = draw_erased(jax.random.key(3), 6, (10, 14), 0.7, AREA, ASPECT)
    expected = np.array(batch)
    for k, (top, left, bottom, right) in enumerate(zip(*boxes)):
        expected[k, top:bottom, left:right] = 9
    np.testing.assert_array_equal(m.erase(batch, boxes, noise), expected)
    assert 0 < (expected == 9).mean() < 1


def test_an_erased_box_is_the_first_of_ten_that_fits():
    rng = np.random.default_rng(0)
    heights, widths = (rng.uniform(0.2, 20, (500, 10)).astype(np.float32) for _ in range(2))
    size = (5, 7)  # so small that hardly more than one in twelve fits
    chosen = map(np.asarray, m._first_fitting(jnp.asarray(heights), jnp.asarray(widths), size))
    for k, (height, width, found) in enumerate(zip(*chosen)):
        rounded = [(round(float(h)), round(float(w))) for h, w in zip(heights[k], widths[k])]
        fitting = [(h, w) for h, w in rounded if h < size[0] and w < size[1]]
        assert (int(height), int(width)) == (fitting[0] if fitting else (0, 0))
        assert bool(found) == bool(fitting)


@pytest.mark.parametrize("size", [(224, 224), (60, 200), (8, 8), (2, 2)])
def test_erased_boxes_lie_inside_the_image_and_the_ranges(size):
    top, left, bottom, right = map(np.asarray, draw_erased(jax.random.key(0), 2000, size, 1.0, AREA, ASPECT))
    assert (top >= 0).all() and (left >= 0).all() and (bottom <= size[0]).all() and (right <= size[1]).all()
    height, width = bottom - top, right - left
    assert (height >= 0).all() and (height < size[0]).all() and (width >= 0).all() and (width < size[1]).all()
    if size == (224, 224):
        assert (height > 0).all() and (width > 0).all()
        share, aspect = height * width / (224 * 224), height / width
        assert 0.019 < share.min() < 0.025 and 0.32 < share.max() < 0.335
        assert 0.28 < aspect.min() < 0.32 and 3.1 < aspect.max() < 3.5


def test_area_and_position_are_uniform_and_aspect_is_log_uniform_where_every_box_fits():
    size, area, aspect = (1000, 1000), (0.05, 0.2), (0.5, 2.0)
    top, left, bottom, right = map(np.asarray, draw_erased(jax.random.key(2), 4000, size, 1.0, area, aspect))
    height, width = bottom - top, right - left
    for values, low, high in (
        (height * width / 1e6, *area),
        (np.log(height / width), *np.log(aspect)),
        (top / (1000 - height), 0, 1),
        (left / (1000 - width), 0, 1),
    ):
        assert farthest_from_uniform(values, low, high) < 0.04


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_images_are_erased_with_their_probability(probability):
    top, _, bottom, _ = draw_erased(jax.random.key(0), 4000, (64, 64), probability, AREA, ASPECT)
    assert abs(np.mean(bottom > top) - probability) < 0.03 * (probability == 0.25) + 1e-9


def test_an_image_too_small_for_any_box_stays():
    batch = images(50, 1, 1)
    np.testing.assert_array_equal(random_erasing(jax.random.key(0), batch, 1.0), batch)


def test_what_is_erased_becomes_standard_normal_noise_of_its_own_per_pixel_channel_and_image():
    batch = jnp.full((200, 32, 32, 3), 100.0)
    erased = np.asarray(random_erasing(jax.random.key(5), batch, 1.0, (0.2, 0.3)))
    changed = erased[erased != 100]
    assert len(np.unique(changed)) > 0.99 * len(changed)  # floats near 0 repeat now and then
    assert abs(changed.mean()) < 0.02 and abs(changed.std() - 1) < 0.02
    assert 0.2 < (erased != 100).mean() < 0.3


def test_erasing_is_a_function_of_the_key_with_the_type_of_the_images():
    batch = images().astype(jnp.bfloat16)
    first, again = (random_erasing(jax.random.key(1), batch) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == jnp.bfloat16
    assert not np.array_equal(random_erasing(jax.random.key(2), batch, 1.0), random_erasing(KEYS[0], batch, 1.0))


# Mixup and cutmix


def mixed_by_hand(batch, labels, share, box, num_classes, smoothing):
    """With a box cutmix, without one mixup."""
    partner, height, width = batch[::-1], *batch.shape[1:3]
    if box is None:
        mixed = share * batch + (1 - share) * partner
    else:
        row, column = box
        tall, wide = int(height * math.sqrt(1 - share)), int(width * math.sqrt(1 - share))
        top, bottom = np.clip([row - tall // 2, row + tall // 2], 0, height)
        left, right = np.clip([column - wide // 2, column + wide // 2], 0, width)
        mixed = batch.copy()
        mixed[:, top:bottom, left:right] = partner[:, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (height * width)
    off = smoothing / num_classes
    target = np.where(np.arange(num_classes) == labels[:, None], 1 - smoothing + off, off)
    return mixed, share * target + (1 - share) * target[::-1]


@pytest.mark.parametrize("batch", [6, 5, 1])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.37, 0.9, 1.0])
@pytest.mark.parametrize("box", [None, (0, 0), (5, 7), (9, 2), (4, 13)])
def test_mixing_is_what_the_formulas_say(batch, share, box):
    pictures, labels = images(batch), jnp.arange(batch) % 4
    if box is None:
        mixture = m.Mixture(jnp.full((10, 14), share), jnp.float32(share))
    else:
        corner = m.cutmix_box(jnp.float32(share), jnp.int32(box[0]), jnp.int32(box[1]), (10, 14))
        mixture = m.cut_box(corner, (10, 14))
    expected_images, expected_targets = mixed_by_hand(np.asarray(pictures), np.asarray(labels), share, box, 4, 0.1)
    np.testing.assert_allclose(m.blend_images(pictures, mixture), expected_images, rtol=1e-6, atol=1e-6)
    targets = m.blend_targets(m.smooth_targets(labels, 4, 0.1), mixture)
    np.testing.assert_allclose(targets, expected_targets, rtol=1e-6)
    np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-6)


def is_cut(mixture):
    return np.isin(np.asarray(mixture.weights), (0, 1)).all(axis=(1, 2))


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_cutmix_comes_with_the_switch_probability(probability):
    mixture = jax.jit(jax.vmap(lambda key: m.draw_mixture(key, (6, 6), 0.8, 1.0, probability)))(KEYS)
    assert abs(is_cut(mixture).mean() - probability) < 0.04 * (probability == 0.3) + 1e-9


@pytest.mark.parametrize(("mixup", "cutmix", "cut"), [(0.8, 0.0, False), (0.0, 1.0, True)])
def test_only_one_is_used_where_the_other_is_off(mixup, cutmix, cut):
    mixture = jax.jit(jax.vmap(lambda key: m.draw_mixture(key, (6, 6), mixup, cutmix, 0.5)))(KEYS[:50])
    assert (is_cut(mixture) == cut).all()


@pytest.mark.parametrize("alpha", [0.8, 0.2, 1.0])
def test_shares_of_mixup_have_the_moments_of_their_beta_distribution(alpha):
    share = np.asarray(jax.jit(jax.vmap(lambda key: m.draw_mixup(key, (1, 1), alpha).share))(KEYS))
    assert abs(share.mean() - 0.5) < 0.04
    assert abs(share.var() - 1 / (4 * (2 * alpha + 1))) < 0.02  # a b / ((a + b)^2 (a + b + 1))


def test_boxes_of_cutmix_are_centred_evenly_and_cut_what_the_target_says():
    weights, share = jax.jit(jax.vmap(lambda key: m.draw_cutmix(key, (10, 14), 1.0)))(KEYS)
    np.testing.assert_allclose(share, np.asarray(weights).mean((1, 2)), rtol=1e-6)
    shares = (np.arange(400) + 0.5) / 400
    expected = np.mean([np.outer(covered(10, share), covered(14, share)) for share in shares], axis=0)
    assert np.abs(1 - np.asarray(weights).mean(0) - expected).max() < 0.05  # over four standard deviations


def covered(side, share):
    """How often the box of a cutmix covers each row (or column), over all centres."""
    half = int(side * math.sqrt(1 - share)) // 2
    pixels = np.arange(side)
    return np.mean([(pixels >= centre - half) & (pixels < centre + half) for centre in pixels], axis=0)


def test_the_whole_batch_shares_one_draw_and_reversal_makes_the_partners():
    batch = jnp.arange(4.0)[:, None, None, None] * jnp.ones((4, 3, 3, 1))
    mixed, targets = m.mix(jax.random.key(4), batch, jnp.arange(4), 4, cutmix=0.0, smoothing=0.0)
    share = float(targets[0, 0])
    np.testing.assert_allclose(mixed[:, 0, 0, 0], [share * k + (1 - share) * (3 - k) for k in range(4)], rtol=1e-5)
    np.testing.assert_allclose(targets, share * np.eye(4) + (1 - share) * np.eye(4)[::-1], rtol=1e-5)


def test_without_mixup_and_cutmix_only_the_labels_are_smoothed():
    batch = images()
    mixed, targets = m.mix(jax.random.key(0), batch, jnp.array([0, 1, 2, 0, 1, 2]), 3, 0.0, 0.0)
    assert mixed is batch
    on, off = 1 - 0.1 + 0.1 / 3, 0.1 / 3
    np.testing.assert_allclose(targets[:2], [[on, off, off], [off, on, off]], rtol=1e-6)


def test_mixing_is_a_function_of_the_key_and_keeps_the_type_of_the_images():
    batch, labels = images().astype(jnp.bfloat16), jnp.arange(6)
    mixing = jax.jit(m.mix, static_argnums=3)
    first, again, other = (mixing(key, batch, labels, 6) for key in (KEYS[0], KEYS[0], KEYS[1]))
    assert first[0].dtype == jnp.bfloat16 and first[1].dtype == jnp.float32
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def test_a_batch_that_lies_on_a_mesh_is_mixed_and_erased_in_place():
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
    batch, labels = jax.device_put((images(8), jnp.arange(8)), sharding)
    program = jax.jit(lambda key, x, y: m.mix(key, m.random_erasing(key, x), y, 8), out_shardings=sharding)
    mixed, targets = program(KEYS[0], batch, labels)
    expected = jax.jit(m.mix, static_argnums=3)(KEYS[0], random_erasing(KEYS[0], images(8)), jnp.arange(8), 8)
    np.testing.assert_allclose(mixed, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(targets, expected[1], rtol=1e-5)


# Soft cross-entropy


def test_soft_cross_entropy_is_the_mean_over_rows_in_float32():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 3, (7, 5)), rng.dirichlet(np.ones(5), 7)
    expected = np.mean([-t @ (x - np.log(np.exp(x).sum())) for x, t in zip(logits, targets)])
    result = m.soft_cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(targets, jnp.float32))
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert m.soft_cross_entropy(jnp.ones((2, 3), jnp.bfloat16), jnp.ones((2, 3)) / 3).dtype == jnp.float32


def test_smoothed_targets_give_the_cross_entropy_with_label_smoothing():
    logits, labels = jax.random.normal(jax.random.key(0), (6, 5)), jnp.arange(6) % 5
    log_p = np.asarray(jax.nn.log_softmax(logits))
    expected = 0.9 * -log_p[np.arange(6), labels].mean() + 0.1 * -log_p.mean()
    np.testing.assert_allclose(m.soft_cross_entropy(logits, m.smooth_targets(labels, 5, 0.1)), expected, rtol=1e-6)


def test_soft_cross_entropy_bears_large_logits():
    logits = jnp.array([[1e4, 0.0], [0.0, -1e4]])
    assert m.soft_cross_entropy(logits, jnp.array([[1.0, 0.0], [1.0, 0.0]])) == 0


# Mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probability": 1.5}, "the probability of erasing is 1.5; choose a number from 0 to 1"),
        ({"area": (0.5, 0.2)}, r"the area to erase is \(0.5, 0.2\)"),
        ({"aspect": (0.0, 2.0)}, r"the aspect of what is erased is \(0.0, 2.0\)"),
    ],
)
def test_erasing_refuses_values_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        m.random_erasing(jax.random.key(0), images(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup": -0.1}, "mixup is -0.1 and cutmix 1.0; choose numbers from 0"),
        ({"switch_probability": 2.0}, "the switch probability is 2.0"),
        ({"smoothing": 1.0}, "label smoothing is 1.0; choose a number from 0, less than 1"),
    ],
)
def test_mixing_refuses_values_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        m.mix(jax.random.key(0), images(), jnp.arange(6), 6, **options)
