"""Every named encoder and model, without making one."""

import jax
import jax.numpy as jnp
import pytest

from mim_jax.errors import InputError
from mim_jax.models.blocks import Computation
from mim_jax.models.build import initial_parameters, make_encoder
from mim_jax.models.classifier import Classifier
from mim_jax.models.flops import encoder_flops
from mim_jax.models.presets import ENCODERS, MAE_MODELS, SIMMIM_MODELS, encoder_config
from mim_jax.pretraining.lut import LUT_MODELS, lut_preset
from mim_jax.pretraining.mae import mae_preset
from mim_jax.pretraining.simmim import simmim_preset


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def encoder_parameters(config):
    return jax.eval_shape(lambda key: initial_parameters(config, key), jax.random.key(0))


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_can_be_built(name):
    config = encoder_config(name)
    assert count(encoder_parameters(config)) > 1e6
    assert encoder_flops(config) > 0


ENCODER_PARAMETERS = {
    "vit_base_patch16": 85_798_656,
    "vit_large_patch16": 303_301_632,
    "vit_huge_patch14": 630_764_800,
    "swinv2_tiny": 27_578_154,
    "swinv2_small": 48_959_418,
    "swinv2_base": 86_893_816,
    "swinv2_large": 195_202_932,
    "swinv2_huge": 655_219_370,
}


@pytest.mark.parametrize("name, parameters", ENCODER_PARAMETERS.items())
def test_encoder_has_the_published_number_of_parameters(name, parameters):
    assert count(encoder_parameters(encoder_config(name))) == parameters


@pytest.mark.parametrize(
    "name, parameters, changes, readout",
    [
        ("vit_small_patch16", 22_050_664, {"position": "learned", "final_norm": False}, "mean_then_norm"),
        ("simmim_finetune_vit_base_patch16", 86_530_984, {}, "mean_then_norm"),
        ("swin_base_patch4_window6_192", 87_750_176, {}, "mean"),
        ("swin_base_patch4_window7", 87_768_224, {}, "mean"),
        ("swin_large_patch4_window14", 196_794_556, {}, "mean"),
    ],
)
def test_classifier_has_the_published_number_of_parameters(name, parameters, changes, readout):
    config = encoder_config(name, **changes)
    classifier = Classifier(make_encoder(config, Computation(scan_blocks=True)), 1000, readout)
    images = jnp.zeros((1, *config.image_size, 3))
    assert count(jax.eval_shape(classifier.init, jax.random.key(0), images)) == parameters


MODELS = {
    "mae_vit_base_patch16": 111_907_840,
    "mae_vit_large_patch16": 329_541_888,
    "mae_vit_huge_patch14": 657_074_508,
    "simmim_vit_base_patch16": 86_256_720,
    "simmim_swin_base_window6_192": 89_874_104,
    "simmim_swin_large_window12_192": 199_881_204,
    "lut_vit_small_patch16": 53_886_080,
    "lut_vit_medium_patch16": 72_707_840,
    "lut_vit_base_patch16": 124_507_136,
    "lut_vit_large_patch16": 346_335_488,
}


@pytest.mark.parametrize("name", [*MAE_MODELS, *SIMMIM_MODELS, *LUT_MODELS])
def test_every_model_can_be_built(name):
    make = {"mae": mae_preset, "simmim": simmim_preset, "lut": lut_preset}[name.split("_")[0]]
    objective = make(name)
    parameters = count(jax.eval_shape(objective.init, jax.random.key(0)))
    assert parameters == MODELS.get(name, parameters) > 1e6
    assert objective.flops_per_image() > 0 and objective.activation_bytes_per_image() > 0


def test_unknown_field_offers_the_nearest():
    with pytest.raises(InputError, match="'swinv2_base' has no field 'windw'; did you mean 'window'"):
        encoder_config("swinv2_base", windw=8)
