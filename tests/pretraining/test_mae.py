"""Properties of the MAE objective."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr

from mim_jax.models.vit import VisionTransformerConfig
from mim_jax.ops.patches import patchify
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder, mae_preset

CONFIG = VisionTransformerConfig((8, 12), (4, 4), 3, width=16, depth=1, num_heads=2)


def objective(**options):
    return MaskedAutoencoder(CONFIG, DecoderConfig(8, 1, 2), **({"mask_ratio": 0.5} | options))


@pytest.fixture(scope="module")
def parameters():
    return jax.jit(objective().init)(jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
    image = jax.random.normal(jax.random.key(1), (3, 8, 12, 3))
    return objective().draw({"image": image}, jax.random.key(2))


def test_noise_given_by_the_caller_is_kept(batch):
    assert objective().draw(batch, jax.random.key(9)) is batch


def test_loss_is_over_removed_patches_only(parameters, batch):
    out = objective().reconstruct(parameters, batch)
    error = np.square(out.prediction - patchify(batch["image"], (4, 4))).mean(-1)
    loss, outcome = objective().loss(parameters, batch)
    assert float(loss) == pytest.approx(float(error[np.asarray(out.mask.mask) == 1].mean()), rel=1e-5)
    assert outcome.metrics["loss"] == loss and outcome.memory == {}


def test_ratio_zero_sees_every_patch_in_order(parameters, batch):
    out = objective(mask_ratio=0.0).reconstruct(parameters, batch)
    plain = objective().encoder.apply({"params": parameters["encoder"]}, batch["image"])
    assert jnp.array_equal(out.latent, plain.tokens)
    assert float(objective(mask_ratio=0.0).loss(parameters, batch)[0]) == 0.0


@pytest.mark.parametrize("normalised", [False, True])
def test_panel_pastes_the_visible_patches(parameters, batch, normalised):
    panel = objective(normalise_target=normalised).panel(parameters, batch)
    assert panel.shape == (3, len(objective().panel_titles), 8, 12, 3)
    original, masked, reconstruction, pasted = (patchify(panel[:, i], (4, 4)) for i in range(4))
    removed = np.asarray(objective().reconstruct(parameters, batch).mask.mask)[:, :, None]
    np.testing.assert_allclose(masked, original * (1 - removed), atol=1e-6)
    np.testing.assert_allclose(pasted, np.where(removed, reconstruction, original), atol=1e-6)


@pytest.mark.parametrize(
    "name, forward, training",
    [
        ("mae_vit_base_patch16", 19.56, 58.5),
        ("mae_vit_large_patch16", 41.5, 124.2),
        ("mae_vit_huge_patch14", 97.1, 291.0),
    ],
)
def test_flops_are_the_published_ones_less_the_embedding_of_removed_patches(name, forward, training):
    mae = mae_preset(name)
    removed = 2 * (mae.encoder_config.patches - mae.kept) * mae.encoder_config.patch_values * mae.encoder_config.width
    assert (mae.forward_flops() + removed) / 1e9 == pytest.approx(forward, abs=0.06)
    assert (mae.flops_per_image() + 2 * removed) / 1e9 == pytest.approx(training, abs=0.1)


def program_flops(function, *arguments):
    """FLOPs of all matrix products that a program needs, two for each multiply-add."""
    program = jax.make_jaxpr(function)(*arguments).jaxpr
    return product_flops(dce_jaxpr(program, [True] * len(program.outvars))[0])


def product_flops(jaxpr):
    """FLOPs of all matrix products in a program, two for each multiply-add."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        total += sum(product_flops(inner) for inner in jaxprs_in_params(equation.params))
    return total


def test_flops_are_those_of_the_program():
    mae = objective()
    shapes = jax.eval_shape(mae.init, jax.random.key(0))
    inputs = {"image": jnp.zeros((1, 8, 12, 3)), "noise": jnp.zeros((1, 6))}
    assert program_flops(mae.reconstruct, shapes, inputs) == mae.forward_flops()
    assert program_flops(jax.grad(mae.loss, has_aux=True), shapes, inputs) == mae.flops_per_image()


def test_decoder_heads_must_divide_its_width():
    with pytest.raises(ValueError, match="decoder width 10 is not divisible by 4 heads"):
        MaskedAutoencoder(CONFIG, DecoderConfig(10, 1, 4))


def test_noise_decides_the_mask_whatever_the_micro_batch(parameters, batch):
    whole, _ = objective().loss(parameters, batch)
    parts = [objective().loss(parameters, jax.tree.map(lambda x, i=i: x[i : i + 1], batch))[0] for i in range(3)]
    assert float(np.mean(parts)) == pytest.approx(float(whole), rel=1e-5)
