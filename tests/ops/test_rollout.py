"""Attention rollout, and attention of a few queries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from mim_jax.models.vit import VisionTransformer, VisionTransformerConfig
from mim_jax.ops import attention_maps
from mim_jax.ops.attention import Observation, Windows
from mim_jax.ops.attention_maps import attention_of_queries
from mim_jax.ops.rollout import class_rollout, logit_parts, rollout_matrix

LAYERS, BATCH, HEADS, TOKENS, WIDTH = 3, 2, 2, 7, 4
GENERATOR = np.random.default_rng(0)

mass_mask = jax.jit(attention_maps.mass_mask, static_argnums=1)


def normal(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


QUERIES, KEYS = 2 * normal(2, LAYERS, BATCH, HEADS, TOKENS, WIDTH)
SCALES, BIASES = np.asarray([0.5, 0.7, 0.3], np.float32), normal(LAYERS, HEADS, TOKENS, TOKENS)


def attention(scales=SCALES, biases=BIASES):
    """Softmax attention of every layer, `[l, b, k, n, n]`, in float64."""
    logits = np.einsum("lbkne,lbkme->lbknm", QUERIES, KEYS, dtype=np.float64)
    logits = logits * np.broadcast_to(scales, (LAYERS, *np.shape(scales)[1:])).reshape(LAYERS, 1, -1, 1, 1)
    return scipy.special.softmax(logits if biases is None else logits + biases[:, None], axis=-1)


def plain_rollout(weights):
    """The product of (mean over heads + identity) / 2 over layers, the first on the right, one image after another."""
    rolled = []
    for image in range(weights.shape[1]):
        product = np.eye(weights.shape[-1])
        for layer in weights[:, image].mean(axis=1):
            product = (layer + np.eye(len(layer))) / 2 @ product
        rolled.append(product)
    return np.stack(rolled)


def test_the_matrix_is_the_product_over_layers():
    weights = attention()
    ours = rollout_matrix(jnp.asarray(weights, jnp.float32))
    np.testing.assert_allclose(ours, plain_rollout(weights), rtol=1e-5)
    np.testing.assert_allclose(ours.sum(axis=-1), 1, rtol=1e-6)


def test_rows_are_divided_by_their_own_sums():
    weights = attention()
    weights = np.where(weights > 0.1, weights, 0)  # rows no longer sum to 1, each in its own way
    mixed = weights.mean(axis=2) + np.eye(TOKENS)
    by_row = np.stack([np.stack([[row / row.sum() for row in image] for image in layer]) for layer in mixed])
    expected = np.stack([by_row[2, b] @ by_row[1, b] @ by_row[0, b] for b in range(BATCH)])
    ours = rollout_matrix(jnp.asarray(weights, jnp.float32))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ours.sum(axis=-1), 1, rtol=1e-6)
    by_column = mixed / mixed.sum(axis=-1)[..., None, :]  # the sum of row j divides column j: what a lost axis does
    assert np.abs(by_column.sum(axis=-1) - 1).max() > 0.02


@pytest.mark.parametrize("chunk", [1, 3, 256])
def test_the_rollout_of_tokens_is_their_rows_of_the_matrix(chunk):
    start = (0, 5, 2)
    ours = class_rollout(QUERIES, KEYS, SCALES, BIASES, start=start, chunk=chunk)
    np.testing.assert_allclose(ours, plain_rollout(attention())[:, list(start)], rtol=1e-5)
    np.testing.assert_allclose(ours.sum(axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("scales", [0.5, normal(LAYERS, HEADS, 1, 1)])
def test_a_scale_may_be_one_number_or_one_for_every_head(scales):
    ours = class_rollout(QUERIES, KEYS, scales)
    assert ours.shape == (BATCH, 1, TOKENS)
    np.testing.assert_allclose(ours[:, 0], plain_rollout(attention(scales, None))[:, 0], rtol=1e-5)


def test_a_token_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="7 tokens are counted from 0 to 6"):
        class_rollout(QUERIES, KEYS, 1.0, start=(7,))


def test_an_encoder_gives_what_rollout_needs_by_its_observer():
    config = VisionTransformerConfig((8, 4), (2, 2), 1, width=16, depth=3, num_heads=2)
    model, images = VisionTransformer(config), jnp.asarray(normal(2, 8, 4, 1))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    parameters = jax.tree.map(lambda leaf: 0.5 * normal(*leaf.shape), shapes)
    seen = jax.jit(lambda images: model.apply(parameters, images, observer=logit_parts).observations)(images)
    logits = np.einsum("lbkne,lbkme->lbknm", seen.query, seen.key, dtype=np.float64) * 8**-0.5
    expected = plain_rollout(scipy.special.softmax(logits, axis=-1))
    np.testing.assert_allclose(class_rollout(*seen)[:, 0], expected[:, 0], rtol=1e-5)


def test_attention_within_windows_is_refused():
    query, tokens = jnp.zeros((1, 1, 1, 4, 2)), jnp.zeros((1, 4, 2))
    windows = Windows((1, 1), (2, 2), 0, (4, 4))
    with pytest.raises(ValueError, match="attends within windows"):
        logit_parts(Observation(query, query, query, 1.0, None, tokens, tokens, windows))


@pytest.mark.parametrize("bias", [None, BIASES[0], BIASES[0][:, :1]])
def test_attention_of_queries_is_some_rows_of_attention(bias):
    rows = np.asarray([6, 0])
    ours = attention_of_queries(jnp.asarray(QUERIES[0]), jnp.asarray(KEYS[0]), 0.5, bias, rows)
    logits = 0.5 * np.einsum("bkne,bkme->bknm", QUERIES[0], KEYS[0], dtype=np.float64)
    expected = scipy.special.softmax(logits if bias is None else logits + bias, axis=-1)[:, :, rows]
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_attention_of_bfloat16_queries_is_in_float32():
    query = jnp.asarray(QUERIES[0]).astype(jnp.bfloat16)
    ours = attention_of_queries(query, query, 1.0, None, np.arange(2))
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours.sum(axis=-1), 1, rtol=1e-6)


def test_a_mask_is_the_smallest_set_that_holds_the_mass():
    rows = jnp.asarray(scipy.special.softmax(3 * normal(4, 20), axis=-1))
    for row, mask in zip(np.asarray(rows, np.float64), np.asarray(mass_mask(rows, 0.6)), strict=True):
        held = row[mask]
        assert held.sum() >= 0.6 - 1e-6 > held.sum() - held.min()
        assert held.min() >= row[~mask].max()


def test_masks_of_equal_and_of_unnormalised_attention():
    assert mass_mask(jnp.full(10, 0.1), 0.6).sum() == 6
    assert mass_mask(jnp.full(196, 1 / 196), 1.0).sum() == 196
    np.testing.assert_array_equal(mass_mask(jnp.asarray([1.0, 6.0, 3.0]), 0.6), [False, True, False])
    np.testing.assert_array_equal(mass_mask(jnp.zeros(3), 0.6), [False, False, False])


@pytest.mark.parametrize("mass", [0.0, 1.5])
def test_a_mass_that_is_no_share_is_refused(mass):
    with pytest.raises(ValueError, match="choose a share of the attention"):
        mass_mask(jnp.ones(3), mass)
