"""What supervised training does to a batch on the device: random erasing, mixup, cutmix, soft targets.

Every method is a random draw and its application, two functions; all are pure, with static shapes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from mim_jax.ops.patches import rows_and_columns

ATTEMPTS = 10
"""Draws of a box to erase before an image is left as it is."""


class Boxes(NamedTuple):
    """A rectangle of pixels for every image; its `bottom` row and `right` column are the first outside."""

    top: Int[Array, "*b"]
    left: Int[Array, "*b"]
    bottom: Int[Array, "*b"]
    right: Int[Array, "*b"]


class Mixture(NamedTuple):
    """How an image and its partner become one.

    Attributes:
        weights: share of the image itself in every pixel, `[h, w]`.
        share: its share in the target.
    """

    weights: Float[Array, "h w"]
    share: Float[Array, ""]


def random_erasing(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    probability: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> Float[Array, "b h w c"]:
    """Replace a random box of some images by standard normal noise, pixel by pixel (Zhong et al. 2020; timm's "pixel").

    Meant for normalised images.

    Args:
        key: all that is random comes from here.
        images: the batch.
        probability: of an image to be erased.
        area: range of the box's share of the area.
        aspect: range of the box's height over width, drawn evenly in the logarithm.

    Raises:
        ValueError: a value is out of range.
    """
    _check_erasing(probability, area, aspect)
    boxes_key, noise_key = jax.random.split(key)
    boxes = draw_erased(boxes_key, images.shape[0], rows_and_columns(images), probability, area, aspect)
    return erase(images, boxes, jax.random.normal(noise_key, images.shape, images.dtype))


def draw_erased(
    key: PRNGKeyArray,
    batch: int,
    size: tuple[int, int],
    probability: float,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Boxes:
    """A box for every image: the first of ten that is lower and narrower than the image; empty if none is.

    It is also empty with probability 1 - `probability`. `size` is height and width in pixels; the other values are
    those of `random_erasing`.
    """
    chance_key, area_key, aspect_key, top_key, left_key = jax.random.split(key, 5)
    shape = (batch, ATTEMPTS)
    areas = size[0] * size[1] * jax.random.uniform(area_key, shape, minval=area[0], maxval=area[1])
    low, high = jnp.log(aspect[0]), jnp.log(aspect[1])
    aspects = jnp.exp(jax.random.uniform(aspect_key, shape, minval=low, maxval=high))
    height, width, found = _first_fitting(jnp.sqrt(areas * aspects), jnp.sqrt(areas / aspects), size)
    erased = found & jax.random.bernoulli(chance_key, probability, (batch,))
    top = jax.random.randint(top_key, (batch,), 0, size[0] - height + 1)
    left = jax.random.randint(left_key, (batch,), 0, size[1] - width + 1)
    return Boxes(top, left, top + height * erased, left + width * erased)


def erase(images: Float[Array, "b h w c"], boxes: Boxes, noise: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The noise inside the boxes, the images outside."""
    return jnp.where(inside(boxes, rows_and_columns(images))[..., None], noise, images)


def inside(boxes: Boxes, size: tuple[int, int]) -> Bool[Array, "*b h w"]:
    """Which pixels belong to the boxes."""
    top, left, bottom, right = (jnp.asarray(side)[..., None] for side in boxes)
    row, column = jnp.arange(size[0]), jnp.arange(size[1])
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    return rows[..., :, None] & columns[..., None, :]


def mix(
    key: PRNGKeyArray,
    images: Float[Array, "b h w c"],
    labels: Int[Array, "b"],
    num_classes: int,
    mixup: float = 0.8,
    cutmix: float = 1.0,
    switch_probability: float = 0.5,
    smoothing: float = 0.1,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b t"]]:
    """Mixup (Zhang et al. 2018) or cutmix (Yun et al. 2019) of a batch with itself reversed, and its soft targets.

    One draw serves the whole batch, as in timm's mode "batch".

    Args:
        key: all that is random comes from here.
        images: the batch.
        labels: its classes, from 0 to `num_classes` - 1.
        num_classes: length of a target.
        mixup: shares of mixup are drawn from Beta(mixup, mixup); 0 switches it off.
        cutmix: shares of cutmix are drawn from Beta(cutmix, cutmix); 0 switches it off.
        switch_probability: of cutmix, where neither is off.
        smoothing: part of a target that is spread evenly over all classes; it remains where both are off.

    Raises:
        ValueError: a value is out of range.
    """
    _check_mixing(mixup, cutmix, switch_probability, smoothing)
    targets = smooth_targets(labels, num_classes, smoothing)
    if not mixup and not cutmix:
        return images, targets
    mixture = draw_mixture(key, rows_and_columns(images), mixup, cutmix, switch_probability)
    return blend_images(images, mixture), blend_targets(targets, mixture)


def draw_mixture(
    key: PRNGKeyArray, size: tuple[int, int], mixup: float, cutmix: float, switch_probability: float
) -> Mixture:
    """Mixup or cutmix, at least one of which is on, for images of `size` (height and width in pixels)."""
    switch_key, mixup_key, cutmix_key = jax.random.split(key, 3)
    if not cutmix:
        return draw_mixup(mixup_key, size, mixup)
    if not mixup:
        return draw_cutmix(cutmix_key, size, cutmix)
    cut = jax.random.bernoulli(switch_key, switch_probability)
    choices = draw_cutmix(cutmix_key, size, cutmix), draw_mixup(mixup_key, size, mixup)
    return jax.tree.map(lambda if_cut, if_not: jnp.where(cut, if_cut, if_not), *choices)


def draw_mixup(key: PRNGKeyArray, size: tuple[int, int], alpha: float) -> Mixture:
    """The same share, from Beta(alpha, alpha), in every pixel."""
    share = jax.random.beta(key, alpha, alpha)
    return Mixture(jnp.full(size, share), share)


def draw_cutmix(key: PRNGKeyArray, size: tuple[int, int], alpha: float) -> Mixture:
    """A box from the partner: of 1 - Beta(alpha, alpha) of the area, centred anywhere, clipped at the border."""
    share_key, row_key, column_key = jax.random.split(key, 3)
    row, column = jax.random.randint(row_key, (), 0, size[0]), jax.random.randint(column_key, (), 0, size[1])
    return cut_box(cutmix_box(jax.random.beta(share_key, alpha, alpha), row, column, size), size)


def cutmix_box(share: Float[Array, ""], row: Int[Array, ""], column: Int[Array, ""], size: tuple[int, int]) -> Boxes:
    """The box around (row, column) with sqrt(1 - share) of the image's sides, rounded down, clipped at the border."""
    half_height, half_width = ((jnp.sqrt(1 - share) * side).astype(jnp.int32) // 2 for side in size)
    top, bottom = jnp.clip(row - half_height, 0, size[0]), jnp.clip(row + half_height, 0, size[0])
    left, right = jnp.clip(column - half_width, 0, size[1]), jnp.clip(column + half_width, 0, size[1])
    return Boxes(top, left, bottom, right)


def cut_box(box: Boxes, size: tuple[int, int]) -> Mixture:
    """All of the partner inside one box, nothing outside; the share in the target is what the clipped box leaves."""
    weights = 1 - inside(box, size).astype(jnp.float32)
    return Mixture(weights, weights.mean())


def blend_images(images: Float[Array, "b h w c"], mixture: Mixture) -> Float[Array, "b h w c"]:
    """Every image with its partner, the image that stands as far from the end as it does from the start."""
    weights = mixture.weights.astype(images.dtype)[:, :, None]
    return weights * images + (1 - weights) * images[::-1]


def blend_targets(targets: Float[Array, "b t"], mixture: Mixture) -> Float[Array, "b t"]:
    """Every target with its partner's."""
    return mixture.share * targets + (1 - mixture.share) * targets[::-1]


def smooth_targets(labels: Int[Array, "b"], num_classes: int, smoothing: float) -> Float[Array, "b t"]:
    """One-hot rows in float32, of which `smoothing` is spread evenly over all classes (Szegedy et al. 2016)."""
    return jax.nn.one_hot(labels, num_classes) * (1 - smoothing) + smoothing / num_classes


def soft_cross_entropy(logits: Float[Array, "b t"], targets: Float[Array, "b t"]) -> Float[Array, ""]:
    """Cross-entropy in nats with targets that are distributions, mean over the batch, in float32."""
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -(targets.astype(jnp.float32) * log_probabilities).sum(-1).mean()


def _first_fitting(
    heights: Float[Array, "b a"], widths: Float[Array, "b a"], size: tuple[int, int]
) -> tuple[Int[Array, "b"], Int[Array, "b"], Bool[Array, "b"]]:
    heights, widths = (jnp.round(sides).astype(jnp.int32) for sides in (heights, widths))
    fits = (heights < size[0]) & (widths < size[1])
    first = jnp.argmax(fits, axis=1, keepdims=True)
    found = fits.any(axis=1)
    height, width = (jnp.take_along_axis(sides, first, axis=1)[:, 0] for sides in (heights, widths))
    return jnp.where(found, height, 0), jnp.where(found, width, 0), found


def _check_erasing(probability: float, area: tuple[float, float], aspect: tuple[float, float]) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"the probability of erasing is {probability}; choose a number from 0 to 1")
    if not 0 < area[0] <= area[1] <= 1:
        raise ValueError(f"the area to erase is {area}; choose two numbers 0 < low <= high <= 1")
    if not 0 < aspect[0] <= aspect[1]:
        raise ValueError(f"the aspect of what is erased is {aspect}; choose two numbers 0 < low <= high")


def _check_mixing(mixup: float, cutmix: float, switch_probability: float, smoothing: float) -> None:
    if min(mixup, cutmix) < 0:
        raise ValueError(f"mixup is {mixup} and cutmix {cutmix}; choose numbers from 0 (off)")
    if not 0 <= switch_probability <= 1:
        raise ValueError(f"the switch probability is {switch_probability}; choose a number from 0 to 1")
    if not 0 <= smoothing < 1:
        raise ValueError(f"label smoothing is {smoothing}; choose a number from 0, less than 1")
