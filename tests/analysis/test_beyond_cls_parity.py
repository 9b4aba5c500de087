"""Statistics of whole encoders against those of the original code of Beyond [cls]: all five arrays, the magnitudes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.analysis.block_measures import Selection
from mim_jax.analysis.collecting import Batch, collect_all
from mim_jax.analysis.measuring import Measure
from mim_jax.models.build import make_encoder
from mim_jax.ops.attention import Observation, attention_logits
from tests import golden_cases as golden
from tests.probing.frozen_encoders import SIMMIM, VIT, configuration, fields_of
from tests.vit_golden import parameters

EPSILON = 1e-6


def encoder_of(name):
    """Configuration, parameters and images of a case, and its arrays with layers first."""
    tensors = {key.removeprefix("encoder."): array for key, array in golden.checkpoint(name).items()}
    model, arrays = golden.case(name)["model"], golden.arrays(name)
    config = configuration(model, **fields_of(name))
    tree = jax.tree.map(jnp.asarray, parameters(tensors, model["num_heads"])["encoder"])
    kinds = np.moveaxis(arrays["statistics"].astype(np.float64), 2, 1)  # [kind, layer, image, head, token]
    return config, tree, golden.channels_last(arrays["images"]), kinds, np.moveaxis(arrays["magnitudes"], 2, 1)


def five(observation: Observation):
    """The five arrays of a block by their formulas, and the lengths of input and branch."""
    weights = jax.nn.softmax(attention_logits(observation.query, observation.key, observation.scale, observation.bias))
    own = jnp.diagonal(weights, axis1=-2, axis2=-1)
    mass = weights[..., 1:].sum(axis=-1)
    share = weights[..., 1:] / (mass + EPSILON)[..., None]
    entropy = -(share * jnp.log(share + EPSILON)).sum(axis=-1)
    kinds = own, own / (mass + EPSILON), weights[..., 0, :], weights[..., :, 0], entropy
    lengths = [jnp.linalg.norm(x, axis=-1) for x in (observation.block_input, observation.branch_output)]
    return jnp.stack(kinds), jnp.stack(lengths)


def largest_error(ours, theirs):
    return float(np.abs(np.asarray(ours, np.float64) - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", [VIT, SIMMIM])
def test_all_five_arrays_and_lengths_of_every_token_equal_the_original(name):
    config, tree, images, kinds, lengths = encoder_of(name)
    run = jax.jit(lambda images: make_encoder(config).apply({"params": tree}, images, observer=five).observations)
    ours, norms = (np.moveaxis(np.asarray(x), 1, 0) for x in run(images))
    for kind in range(5):
        assert largest_error(ours[kind], kinds[kind]) < 1e-5, kind
    assert largest_error(norms[0], lengths[0]) < 1e-5
    if config.layer_scale:  # the original takes the branch before its factors
        branches = np.asarray(jax.jit(functools.partial(unscaled, config, tree))(images))
        assert largest_error(branches, lengths[1]) < 1e-5
    else:
        assert largest_error(norms[1], lengths[1]) < 1e-5


def unscaled(config, tree, images):
    """Lengths of what attention adds before layer scale."""
    seen = make_encoder(config).apply({"params": tree}, images, observer=lambda block: block.branch_output).observations
    factors = jnp.stack([tree["blocks"][str(layer)]["gamma_1"] for layer in range(config.depth)])
    return jnp.linalg.norm(seen / factors[:, None, None], axis=-1)


@pytest.mark.parametrize("name", [VIT, SIMMIM])
def test_means_over_images_equal_those_of_the_original(name):
    config, tree, images, kinds, lengths = encoder_of(name)
    measure = jax.tree_util.Partial(Measure(make_encoder(config), config, Selection(compat=True)), tree)
    stage = collect_all(measure, [Batch(jnp.asarray(images), jnp.ones(3, bool), np.arange(3))]).mean[1]
    first, patches = kinds[..., 0].mean(axis=2), kinds[..., 1:].mean(axis=(2, 4))
    theirs = {
        ("class", "self_attention"): first[0],
        ("patches", "self_attention"): patches[0],
        ("class", "attention_to_a_patch"): patches[2],
        ("patches", "attention_to_class"): patches[3],
        ("", "beyond-cls/cls_cls_attention_adj_for_cls"): first[1],
        ("", "beyond-cls/pos_self_attention_adj_for_cls"): patches[1],
        ("", "beyond-cls/cls_pos_entropy"): first[4],
        ("", "beyond-cls/pos_pos_entropy"): patches[4],
    }
    for (query, statistic), expected in theirs.items():
        assert largest_error(stage.heads[query][statistic], expected) < 1e-5, statistic
    # Ours have no epsilon: theirs differ by about the number of keys times theirs.
    np.testing.assert_allclose(stage.heads["patches"]["attention_entropy"], patches[4], atol=2e-4)
    if not config.layer_scale:
        ratio = lengths[1] / (lengths[0] + EPSILON)
        assert largest_error(stage.layers["class"]["update_magnitude"], ratio[..., 0].mean(axis=1)) < 1e-5
        assert largest_error(stage.layers["patches"]["update_magnitude"], ratio[..., 1:].mean(axis=(1, 2))) < 1e-5
