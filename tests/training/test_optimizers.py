"""Parameter groups and updates of AdamW."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.models.presets import encoder_config
from mim_jax.models.vit import Classifier, VisionTransformer
from mim_jax.pretraining.mae import MaskedAutoencoder
from mim_jax.training.optimizers import FINE_TUNING_DECAY, PRETRAINING_DECAY, adamw, layerwise_scale
from mim_jax.training.trees import first_match, map_with_names
from tests import golden_cases as golden


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def test_layerwise_decay_groups_equal_the_original():
    encoder = VisionTransformer(encoder_config("vit_base_patch16", position="learned", final_norm=False))
    shapes = jax.eval_shape(Classifier(encoder, 10).init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))["params"]
    scales = layerwise_scale(shapes, depth=12, decay=0.75)
    decays = map_with_names(lambda name, _: 0.05 * first_match(FINE_TUNING_DECAY, name), shapes)
    table = golden.case("layerwise_lr_decay")["table"]
    assert len(jax.tree.leaves(shapes)) == len(table)
    for name, (scale, decay) in table.items():
        path = golden.our_path(name)
        assert at(scales, path) == pytest.approx(scale, rel=1e-5), name
        assert at(decays, path) == pytest.approx(decay), name


def test_pretraining_decays_kernels_and_tokens_only():
    shapes = jax.eval_shape(MaskedAutoencoder(encoder_config("vit_tiny_patch16")).init, jax.random.key(0))
    decays = map_with_names(lambda name, _: (name.split("/")[-1], first_match(PRETRAINING_DECAY, name)), shapes)
    pairs = set(jax.tree.leaves(decays, is_leaf=lambda node: isinstance(node, tuple)))
    assert pairs == {
        ("kernel", True), ("cls_token", True), ("mask_token", True), ("bias", False), ("scale", False), ("table", False)
    }  # fmt: skip


def test_update_is_torch_adamw():
    parameters, gradient = {"kernel": jnp.array([1.0, -2.0])}, {"kernel": jnp.array([0.5, 0.1])}
    optimizer = adamw(lambda step: 0.1, betas=(0.9, 0.95), weight_decay=0.05)
    state, m, v, expected = optimizer.init(parameters), 0.0, 0.0, np.array([1.0, -2.0])
    for step in range(1, 4):
        updates, state = optimizer.update(gradient, state, parameters)
        parameters = jax.tree.map(jnp.add, parameters, updates)
        g = np.array([0.5, 0.1]) * 1.0
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        expected = expected * (1 - 0.1 * 0.05)
        expected = expected - 0.1 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.95**step)) + 1e-8)
        np.testing.assert_allclose(parameters["kernel"], expected, rtol=1e-5)


def test_clipping_bounds_the_global_norm():
    tree = {"kernel": jnp.array([3.0, 4.0])}
    clipped, free = (
        adamw(lambda step: 1.0, betas=(0.0, 0.0), weight_decay=0.0, epsilon=1.0, clip_norm=c) for c in (1.0, 0.0)
    )
    update = {
        name: opt.update(tree, opt.init(tree), tree)[0]["kernel"]
        for name, opt in (("clipped", clipped), ("free", free))
    }
    np.testing.assert_allclose(update["clipped"], -np.array([0.6, 0.8]) / (1 + np.array([0.6, 0.8])), rtol=1e-5)
    np.testing.assert_allclose(update["free"], -np.array([3, 4]) / (1 + np.array([3, 4])), rtol=1e-5)


def test_layer_scale_multiplies_the_whole_update():
    tree = {"kernel": jnp.array([1.0])}
    plain, scaled = (
        adamw(lambda step: 0.1, betas=(0.9, 0.9), weight_decay=0.1, learning_rate_scale=scale)
        for scale in (None, {"kernel": 0.25})
    )
    update = [opt.update(tree, opt.init(tree), tree)[0]["kernel"] for opt in (plain, scaled)]
    np.testing.assert_allclose(update[1], 0.25 * update[0], rtol=1e-6)
