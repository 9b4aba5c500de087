"""Parameter groups and updates of AdamW."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.models.classifier import Classifier
from mim_jax.models.presets import encoder_config
from mim_jax.models.stacking import stack_blocks
from mim_jax.models.vit import VisionTransformer
from mim_jax.pretraining.mae import MaskedAutoencoder
from mim_jax.training.optimizers import (
    FINE_TUNING_DECAY,
    PRETRAINING_DECAY,
    SIMMIM_SWIN_DECAY,
    SIMMIM_VIT_DECAY,
    SWIN_DECAY,
    adamw,
    layerwise_scale,
)
from mim_jax.training.schedules import GroupSchedule, cosine_decay
from mim_jax.training.trees import first_match, map_with_names
from tests import golden_cases as golden
from tests.training.torch_names import our_name

LAYER_DECAY_CASES = {
    "simmim_layer_decay_vit": FINE_TUNING_DECAY,
    "simmim_layer_decay_vit_abs_shared": FINE_TUNING_DECAY,
    "simmim_layer_decay_swin": SWIN_DECAY,
    "simmim_layer_decay_swin_ape": SWIN_DECAY,
    "swinv2_layer_decay": SWIN_DECAY,
    "depth_layer_decay": SWIN_DECAY,
}
PLAIN_CASES = {
    "simmim_pretrain_groups_vit": SIMMIM_VIT_DECAY,
    "simmim_pretrain_groups_swin": SIMMIM_SWIN_DECAY,
    "swin_plain_groups": SWIN_DECAY,
}


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


@pytest.mark.parametrize("name", LAYER_DECAY_CASES)
def test_layers_and_decay_groups_equal_the_original(name):
    case, rules = golden.case(name), LAYER_DECAY_CASES[name]
    scales = layerwise_scale(
        {our_name(parameter): np.zeros(()) for parameter in case["table"]},
        depth=case.get("depth") or tuple(case["depths"]),
        decay=case["layer_decay"],
        merging_layers=name.startswith("depth"),
    )
    assert len(scales) == len(case["table"])
    for parameter, (scale, decay) in case["table"].items():
        assert scales[our_name(parameter)] == pytest.approx(scale, rel=1e-9), parameter
        assert case["weight_decay"] * first_match(rules, our_name(parameter)) == decay, parameter


@pytest.mark.parametrize("name", PLAIN_CASES)
def test_decay_groups_equal_the_original(name):
    case = golden.case(name)
    for parameter, (*_, decay) in case["table"].items():
        assert case["weight_decay"] * first_match(PLAIN_CASES[name], our_name(parameter)) == decay, parameter


@pytest.mark.parametrize("rules", [PRETRAINING_DECAY, SIMMIM_VIT_DECAY, SIMMIM_SWIN_DECAY])
def test_scales_of_logits_decay_in_pretraining_although_scales_of_norms_do_not(rules):
    assert first_match(rules, "encoder/stage0/blocks/0/attn/logit_scale")
    assert not first_match(rules, "projector/norm/scale") and not first_match(rules, "scale")


def test_prefix_tokens_are_in_the_first_layer():
    tokens = {name: np.zeros(3) for name in ("encoder/cls_token", "dist_token", "register_tokens", "mask_token")}
    assert set(layerwise_scale(tokens, depth=2, decay=0.5).values()) == {0.125}


def test_stacked_blocks_have_the_factors_of_their_layers():
    blocks = {"blocks": {str(i): {"fc1": {"kernel": np.zeros((2, 2)), "bias": np.zeros(2)}} for i in range(3)}}
    scales = layerwise_scale(blocks, depth=3, decay=0.5)
    stacked = layerwise_scale(stack_blocks(blocks), depth=3, decay=0.5)["blocks"]["stacked"]["fc1"]
    assert stacked["kernel"].shape == (3, 1, 1) and stacked["bias"].shape == (3, 1)
    for leaf in stacked.values():
        assert leaf.ravel().tolist() == [scales["blocks"][str(i)]["fc1"]["kernel"] for i in range(3)]


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


def numpy_adamw(parameter, gradients, rates, weight_decay):
    """A trajectory of torch's AdamW with betas 0.9 and 0.999, in float64."""
    m, v, trajectory = 0.0, 0.0, []
    for count, (gradient, rate) in enumerate(zip(gradients, rates), start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        direction = (m / (1 - 0.9**count)) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)
        parameter = parameter * (1 - rate * weight_decay) - rate * direction
        trajectory.append(parameter)
    return trajectory


def simmim_rate(update, base):
    """SimMIM's curve of 3 warm-up updates from 0.01 and 8 in all down to 0.02; update k has the rate of step k - 1."""
    step = max(update - 1, 0)
    if step < 3:
        return 0.01 + (base - 0.01) * step / 3
    return 0.02 + 0.5 * (base - 0.02) * (1 + np.cos(np.pi * step / 8))


@pytest.mark.parametrize("kind", ["SimMIM", "MAE"])
def test_two_groups_follow_their_own_schedules(kind):
    start = {"blocks": {"0": {"kernel": np.array([1.0, -2.0])}}, "head": {"bias": np.array([0.3])}}
    gradients = np.random.default_rng(0).normal(size=(8, 2))
    schedule, rates = {
        "SimMIM": (GroupSchedule(0.1, cosine_decay(8, final=0.02), 3, 0.01, delayed=True), simmim_rate),
        "MAE": (lambda step: 0.1 / (step + 1), lambda update, base: base / (update + 1)),
    }[kind]
    scale = layerwise_scale(start, depth=1, decay=0.05)  # a base of 0.005, below both ends of SimMIM's curve
    optimizer = adamw(schedule, betas=(0.9, 0.999), weight_decay=0.05, learning_rate_scale=scale)
    parameters = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), start)
    state, update = optimizer.init(parameters), jax.jit(optimizer.update)
    kernels = numpy_adamw(start["blocks"]["0"]["kernel"], gradients, [rates(k, 0.005) for k in range(8)], 0.05)
    biases = numpy_adamw(start["head"]["bias"], gradients[:, :1], [rates(k, 0.1) for k in range(8)], 0.0)
    for gradient, kernel, bias in zip(gradients.astype(np.float32), kernels, biases):
        updates, state = update(
            {"blocks": {"0": {"kernel": gradient}}, "head": {"bias": gradient[:1]}}, state, parameters
        )
        parameters = jax.tree.map(jnp.add, parameters, updates)
        np.testing.assert_allclose(parameters["blocks"]["0"]["kernel"], kernel, rtol=1e-5)
        np.testing.assert_allclose(parameters["head"]["bias"], bias, rtol=1e-5)
