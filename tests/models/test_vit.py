"""The Vision Transformer: presets, observer, scanning, rectangular images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.models.blocks import Computation
from mim_jax.models.classifier import Classifier
from mim_jax.models.flops import encoder_flops
from mim_jax.models.presets import encoder_config
from mim_jax.models.stacking import stack_blocks, unstack_blocks
from mim_jax.models.vit import VisionTransformer, VisionTransformerConfig
from mim_jax.pretraining.mae import mae_preset

TINY = VisionTransformerConfig((8, 12), (4, 4), 3, width=16, depth=3, num_heads=2, drop_path_rate=0.5)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(0), (2, 8, 12, 3))


@pytest.fixture(scope="module")
def parameters(images):
    return jax.jit(VisionTransformer(TINY).init)(jax.random.key(1), images)["params"]


def encode(parameters, images, config=TINY, computation=Computation(), **options):
    return VisionTransformer(config, computation).apply({"params": parameters}, images, **options)


@pytest.mark.parametrize(
    "name, encoder, total, trained",
    [
        ("mae_vit_base_patch16", 85_798_656, 111_907_840, 111_655_680),
        ("mae_vit_large_patch16", 303_301_632, 329_541_888, 329_239_296),
        ("mae_vit_huge_patch14", 630_764_800, 657_074_508, 656_613_964),
    ],
)
def test_mae_parameter_counts_are_the_published_ones(name, encoder, total, trained):
    parameters = jax.eval_shape(mae_preset(name).init, jax.random.key(0))
    fixed = sum(count(parameters[part]["pos_embed"]) for part in ("encoder", "decoder"))
    assert count(parameters["encoder"]) == encoder
    assert count(parameters) == total
    assert count(parameters) - fixed == trained


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("vit_tiny_patch16", 5_717_416),
        ("vit_small_patch16", 22_050_664),
        ("vit_base_patch16", 86_567_656),
        ("vit_large_patch16", 304_326_632),
        ("vit_huge_patch14", 632_045_800),
    ],
)
def test_classifier_parameter_counts_are_the_published_ones(name, parameters):
    config = encoder_config(name, position="learned", final_norm=False)
    classifier = Classifier(VisionTransformer(config), 1000)
    shapes = jax.eval_shape(classifier.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    assert count(shapes) == parameters


@pytest.mark.parametrize(
    "name, gflops", [("vit_base_patch16", 35.1), ("vit_large_patch16", 123.1), ("vit_huge_patch14", 334.6)]
)
def test_encoder_flops_are_the_published_ones(name, gflops):
    assert encoder_flops(encoder_config(name)) / 1e9 == pytest.approx(gflops, abs=0.06)


def test_unknown_preset_offers_the_nearest():
    with pytest.raises(InputError, match="did you mean 'vit_base_patch16'"):
        encoder_config("vit_bse_patch16")


def test_wrong_image_size_is_one_sentence():
    with pytest.raises(InputError, match="'vit_base_patch16': image size 225x225 is not divisible"):
        encoder_config("vit_base_patch16", image_size=(225, 225))


def test_output_says_grid_and_prefix(parameters, images):
    out = encode(parameters, images)
    assert out.tokens.shape == (2, 1 + 6, 16) and out.grid == (2, 3) and out.prefix == 1
    assert out.observations is None


def test_keep_encodes_only_the_named_patches_in_their_order(parameters, images):
    everything = encode(parameters, images, keep=jnp.tile(jnp.arange(6), (2, 1)))
    assert jnp.array_equal(everything.tokens, encode(parameters, images).tokens)
    order = jnp.array([[5, 2, 0], [1, 2, 3]])
    forwards, backwards = (encode(parameters, images, keep=kept).tokens for kept in (order, order[:, ::-1]))
    np.testing.assert_allclose(forwards[:, 1:], backwards[:, :0:-1], atol=1e-5)


def test_unseen_patches_do_not_matter(parameters, images):
    changed = images.at[:, :4, :4].set(9.0)  # patch 0
    keep = jnp.array([[1, 2, 4], [1, 2, 4]])
    assert jnp.array_equal(encode(parameters, images, keep=keep).tokens, encode(parameters, changed, keep=keep).tokens)


@pytest.mark.parametrize("scan", [False, True])
def test_observer_results_are_stacked_over_layers(parameters, images, scan):
    def observer(seen):
        return {"mean": seen.block_input.mean(axis=(1, 2)), "heads": jnp.zeros(seen.query.shape[1])}

    tree = stack_blocks(parameters) if scan else parameters
    out = encode(tree, images, computation=Computation(scan_blocks=scan), observer=observer)
    assert out.observations["mean"].shape == (3, 2) and out.observations["heads"].shape == (3, 2)


def test_observer_sees_what_attention_computes(parameters, images):
    def residual(seen):
        logits = jnp.einsum("bkne,bkme->bknm", seen.query, seen.key) * seen.scale
        return jnp.einsum("bknm,bkme->bnke", jax.nn.softmax(logits), seen.value), seen.branch_output

    heads, branch = encode(parameters, images, observer=residual).observations
    for layer in range(3):
        proj = parameters["blocks"][str(layer)]["attn"]["proj"]
        expected = jnp.einsum("bnke,ked->bnd", heads[layer], proj["kernel"]) + proj["bias"]
        np.testing.assert_allclose(branch[layer], expected, atol=1e-5)


@pytest.mark.parametrize("remat", ["none", "full", "dots", "dots_no_batch"])
@pytest.mark.parametrize("scan", [False, True])
def test_computation_does_not_change_the_result(parameters, images, scan, remat):
    tree = stack_blocks(parameters) if scan else parameters
    out = encode(tree, images, computation=Computation(scan_blocks=scan, remat=remat), dropout_key=jax.random.key(3))
    expected = encode(parameters, images, dropout_key=jax.random.key(3))
    np.testing.assert_allclose(out.tokens, expected.tokens, atol=1e-5)


def test_stochastic_depth_needs_a_key_and_changes_the_tokens(parameters, images):
    plain = encode(parameters, images).tokens
    dropped = [encode(parameters, images, dropout_key=jax.random.key(i)).tokens for i in range(3)]
    assert not all(jnp.allclose(plain, tokens) for tokens in dropped)


@pytest.mark.parametrize("scan", [False, True])
def test_taps_are_what_blocks_return(parameters, images, scan):
    tree = stack_blocks(parameters) if scan else parameters
    out = encode(tree, images, computation=Computation(scan_blocks=scan), taps=(3, 0, 1))
    assert [tap.tokens.shape for tap in out.taps] == [(2, 7, 16)] * 3
    assert out.taps[0].map.shape == (2, 2, 3, 16)
    np.testing.assert_array_equal(out.taps[0].map[:, 1, 2], out.taps[0].tokens[:, -1])
    last = out.taps[0].tokens
    normed = (last - last.mean(-1, keepdims=True)) / jnp.sqrt(last.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(normed, out.tokens, atol=1e-4)
    inputs = encode(tree, images, computation=Computation(scan_blocks=scan), observer=lambda seen: seen.block_input)
    np.testing.assert_allclose(inputs.observations[0], out.taps[1].tokens, atol=1e-6)
    np.testing.assert_allclose(inputs.observations[1], out.taps[2].tokens, atol=1e-6)


def test_bfloat16_computation_stays_close(parameters, images):
    out = encode(parameters, images, computation=Computation(dtype="bfloat16"))
    assert out.tokens.dtype == jnp.float32
    np.testing.assert_allclose(out.tokens, encode(parameters, images).tokens, atol=0.1)


def test_stacking_is_undone_by_unstacking(parameters):
    there_and_back = unstack_blocks(stack_blocks(parameters))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, there_and_back, parameters))


def test_fixed_positions_get_no_gradient(parameters, images):
    gradient = jax.grad(lambda tree: encode(tree, images).tokens.std())(parameters)
    assert not gradient["pos_embed"]["table"].any() and gradient["cls_token"].any()
