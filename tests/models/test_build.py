"""How encoders start, and smaller ones out of larger ones."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.models.build import (
    drop_last_blocks,
    initial_parameters,
    make_encoder,
    reinitialise_last_blocks,
    take_parameters,
)
from mim_jax.models.classifier import Classifier
from mim_jax.models.presets import encoder_config
from mim_jax.models.swin import SwinConfig
from mim_jax.models.vit import VisionTransformerConfig
from mim_jax.pretraining.mae import MaskedAutoencoder
from mim_jax.pretraining.simmim import SimMIM
from mim_jax.training.trees import leaf_name

VIT = VisionTransformerConfig((16, 16), (4, 4), width=16, depth=4, num_heads=2)
SWIN = SwinConfig(image_size=(32, 32), patch_size=(2, 2), width=8, depths=(2, 3), num_heads=(2, 4), window=4)


@pytest.fixture(scope="module", params=[VIT, SWIN], ids=["vit", "swin"])
def config(request):
    return request.param


@pytest.fixture(scope="module")
def parameters(config):
    return jax.jit(lambda key: initial_parameters(config, key))(jax.random.key(0))


def at(tree, path):
    for key in path.split("/"):
        tree = tree[key]
    return np.asarray(tree)


def names(tree):
    return {leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("dropped", [1, 2, 3])
def test_smaller_encoder_is_the_larger_one_up_to_its_last_block(config, parameters, dropped):
    smaller = drop_last_blocks(config, dropped)
    taken, fresh = take_parameters(smaller, parameters, jax.random.key(1))
    blocks = sum(smaller.depths)
    assert blocks == sum(config.depths) - dropped
    vanished = len(smaller.depths) < len(config.depths)
    assert set(fresh) == ({"norm/scale", "norm/bias"} if vanished else set())
    images = jax.random.normal(jax.random.key(2), (2, *config.image_size, 3))

    @jax.jit
    def taps(images):
        small = make_encoder(smaller).apply({"params": taken}, images, taps=(blocks,)).taps[0]
        large = make_encoder(config).apply({"params": parameters}, images, taps=(blocks,)).taps[0]
        return small, large

    small, large = taps(images)
    assert small.grid == large.grid
    np.testing.assert_allclose(small.tokens, large.tokens, atol=1e-6)


def test_reinitialised_tail_is_fresh_and_the_rest_is_kept(config, parameters):
    new = reinitialise_last_blocks(config, parameters, 1, jax.random.key(3))
    assert names(new) == names(parameters)
    last = f"{'blocks/3' if config is VIT else 'stage1/blocks/2'}/attn/qkv/kernel"
    first = last.replace("3" if config is VIT else "blocks/2", "1" if config is VIT else "blocks/1")
    assert (at(new, last) != at(parameters, last)).all() and (at(new, first) == at(parameters, first)).all()


def test_every_block_cannot_be_dropped(config):
    with pytest.raises(ValueError, match="cannot drop"):
        drop_last_blocks(config, sum(config.depths))


def test_stochastic_depth_of_a_smaller_encoder_rises_to_the_same_rate():
    config = dataclasses.replace(VIT, drop_path_rate=0.3)
    assert drop_last_blocks(config, 2).drop_path_rate == 0.3


def test_mae_starts_as_the_original():
    mae = MaskedAutoencoder(encoder_config("vit_tiny_patch16", depth=2))
    tree = jax.jit(mae.init)(jax.random.key(0))
    qkv, embed = (at(tree, f"encoder/{name}/kernel") for name in ("blocks/0/attn/qkv", "patch_embed"))
    assert np.abs(qkv).max() == pytest.approx(math.sqrt(6 / (4 * 192)), rel=1e-2)  # fused: fan-out is three widths
    assert np.abs(embed).max() == pytest.approx(math.sqrt(6 / (768 + 192)), rel=1e-2)
    bias = at(tree, "encoder/patch_embed/bias")
    assert 0.8 / math.sqrt(768) < np.abs(bias).max() <= 1 / math.sqrt(768)
    assert at(tree, "encoder/cls_token").std() == pytest.approx(0.02, rel=0.2)
    assert at(tree, "decoder/mask_token").std() == pytest.approx(0.02, rel=0.2)
    assert not at(tree, "encoder/blocks/1/mlp/fc1/bias").any()


def test_simmim_vit_starts_as_the_original():
    config = encoder_config("simmim_vit_tiny_patch16", depth=3, image_size=(64, 64))
    tree = jax.jit(SimMIM(config).init)(jax.random.key(0))
    # Cut off at one deviation of 0.02, which leaves a deviation of 0.0108.
    for name in ("blocks/0/attn/qkv/kernel", "patch_embed/kernel", "mask_token", "cls_token"):
        values = at(tree, f"encoder/{name}")
        assert np.abs(values).max() <= 0.02
        assert values.std() == pytest.approx(0.0108, rel=0.15)
    for block in range(3):
        for name in ("attn/proj", "mlp/fc2"):
            deviation = at(tree, f"encoder/blocks/{block}/{name}/kernel").std()
            assert deviation == pytest.approx(0.0108 / math.sqrt(2 * (block + 1)), rel=0.05)
    assert not at(tree, "encoder/relative_position_bias/table").any()
    assert not at(tree, "encoder/patch_embed/bias").any() and not at(tree, "encoder/blocks/0/attn/q_bias").any()
    assert (at(tree, "encoder/blocks/2/gamma_1") == np.float32(0.1)).all()
    bound = 1 / math.sqrt(192)  # the decoder is left as torch makes it
    for leaf in ("kernel", "bias"):
        values = np.abs(at(tree, f"decoder/{leaf}"))
        assert 0.95 * bound < values.max() <= bound


@pytest.mark.parametrize("version", [1, 2])
def test_swin_starts_as_the_original(version):
    config = SwinConfig(version, (32, 32), width=48, depths=(2, 2), num_heads=(2, 4), window=4, mask_token=True)
    tree = jax.jit(lambda key: initial_parameters(config, key))(jax.random.key(0))
    bound = 1 / math.sqrt(48)
    for leaf in ("kernel", "bias"):
        assert 0.9 * bound < np.abs(at(tree, f"patch_embed/{leaf}")).max() <= bound
    for name in ("stage0/blocks/0/attn/qkv", "stage1/blocks/1/mlp/fc2", "stage0/merging/reduction"):
        assert at(tree, f"{name}/kernel").std() == pytest.approx(0.02, rel=0.05)
    assert (at(tree, "stage0/blocks/0/norm1/scale") == (1 if version == 1 else 0)).all()
    assert (at(tree, "stage0/merging/norm/scale") == 1).all()
    if version == 1:
        table = at(tree, "stage0/blocks/1/attn/relative_position_bias/table")
        assert table.std() == pytest.approx(0.02, rel=0.2)
    else:
        scale = at(tree, "stage1/blocks/0/attn/logit_scale")
        np.testing.assert_allclose(scale, math.log(10), rtol=1e-6)
        assert at(tree, "stage0/blocks/0/attn/position_mlp/fc1/kernel").std() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("name, deviation", [("normal", 0.02), ("fine_tuned_head", 2e-5), ("probed_head", 0.01)])
def test_head_starts_as_its_use_asks(name, deviation):
    classifier = Classifier(make_encoder(VIT), 200, "mean", head_init=name)
    head = jax.jit(classifier.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]["head"]
    assert at(head, "kernel").std() == pytest.approx(deviation, rel=0.1)
    assert not at(head, "bias").any()


def test_learned_positions_start_as_small_noise_or_as_the_fixed_ones():
    small = dataclasses.replace(VIT, position="learned", kernel_init="normal")
    table = initial_parameters(small, jax.random.key(0))["pos_embed"]["table"]
    assert float(jnp.std(table)) == pytest.approx(0.02, rel=0.15)
    as_mae = dataclasses.replace(VIT, position="learned")
    fixed, learned = (initial_parameters(c, jax.random.key(0))["pos_embed"]["table"] for c in (VIT, as_mae))
    assert jnp.array_equal(fixed, learned)
