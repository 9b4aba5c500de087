"""MAE against the original PyTorch code."""

import jax
import numpy as np
import pytest

from mim_jax.models.blocks import Computation
from mim_jax.models.classifier import Classifier
from mim_jax.models.stacking import stack_blocks
from mim_jax.models.vit import VisionTransformer, VisionTransformerConfig
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from tests import golden_cases as golden
from tests import vit_golden
from tests.models.test_vit_parity import config_of as vit_config_of

TOLERANCE = 1e-5


def encoder_config(model, **changes):
    return VisionTransformerConfig(
        image_size=(model["img_size"],) * 2,
        patch_size=(model["patch_size"],) * 2,
        width=model["embed_dim"],
        depth=model["depth"],
        num_heads=model["num_heads"],
        **changes,
    )


def objective(case, computation=Computation()):
    model = case["model"]
    decoder = DecoderConfig(model["decoder_embed_dim"], model["decoder_depth"], model["decoder_num_heads"])
    return MaskedAutoencoder(
        encoder_config(model), decoder, case["mask_ratio"], model["norm_pix_loss"], computation=computation
    )


@pytest.fixture(params=["mae_pretrain", "mae_pretrain_normpix"])
def case(request):
    name = request.param
    settings, arrays = golden.case(name), golden.arrays(name)
    parameters = golden.our_parameters(golden.checkpoint(name), settings["model"])
    return settings, arrays, parameters


def batch_of(arrays):
    return {"image": golden.channels_last(arrays["images"]), "noise": arrays["noise"]}


def test_forward_equals_the_original(case):
    settings, arrays, parameters = case
    out = jax.jit(objective(settings).reconstruct)(parameters, batch_of(arrays))
    assert np.array_equal(out.mask.mask, arrays["mask"])
    assert np.array_equal(out.mask.restore, arrays["ids_restore"])
    assert golden.relative_error(out.latent, arrays["latent"]) < TOLERANCE
    assert golden.relative_error(out.prediction, arrays["pred"]) < TOLERANCE


@pytest.mark.parametrize("computation", [Computation(), Computation(scan_blocks=True, remat="dots")])
def test_loss_and_gradients_equal_the_original(case, computation):
    settings, arrays, parameters = case
    if computation.scan_blocks:
        parameters = stack_blocks(parameters)
    loss_function = objective(settings, computation).loss
    (loss, _), gradients = jax.jit(jax.value_and_grad(loss_function, has_aux=True))(parameters, batch_of(arrays))
    assert golden.relative_error(loss, arrays["loss"]) < TOLERANCE
    for name, theirs in arrays.items():
        if name.startswith("grad/"):
            name = name.removeprefix("grad/")
            heads = settings["model"]["decoder_num_heads" if name.startswith("decoder") else "num_heads"]
            assert golden.relative_error(at(gradients, name), golden.our_array(name, theirs, heads)) < TOLERANCE, name


@pytest.mark.parametrize("name", ["hf_vitmae", "hf_vitmae_normpix", "hf_vitmae_v5names"])
def test_pretraining_equals_hugging_face(name):
    case, arrays = golden.case(name), golden.arrays(name)
    model = case["model"]
    tree = vit_golden.parameters(
        golden.checkpoint(name), model["num_attention_heads"], model["decoder_num_attention_heads"], "hugging_face"
    )
    decoder = DecoderConfig(
        model["decoder_hidden_size"],
        model["decoder_num_hidden_layers"],
        model["decoder_num_attention_heads"],
        mlp_ratio=model["decoder_intermediate_size"] / model["decoder_hidden_size"],
        norm_epsilon=model["layer_norm_eps"],
    )
    config = vit_config_of(case, position="sincos")
    mae = MaskedAutoencoder(config, decoder, model["mask_ratio"], model["norm_pix_loss"])

    @jax.jit
    def run(tree, batch):
        (loss, _), gradients = jax.value_and_grad(mae.loss, has_aux=True)(tree, batch)
        return mae.reconstruct(tree, batch), loss, gradients

    out, loss, gradients = run(tree, batch_of(arrays))
    assert golden.relative_error(out.latent, arrays["tokens"]) < TOLERANCE
    assert golden.relative_error(out.prediction, arrays["logits"]) < TOLERANCE
    assert golden.relative_error(loss, arrays["loss"]) < TOLERANCE
    for key, ours in {
        "grad/vit.embeddings.cls_token": gradients["encoder"]["cls_token"],
        "grad/decoder.mask_token": gradients["decoder"]["mask_token"],
        "grad/decoder.decoder_pred.bias": gradients["decoder"]["pred"]["bias"],
    }.items():
        if key in arrays:
            assert golden.relative_error(ours, arrays[key].reshape(-1)) < TOLERANCE, key
    key = "grad/vit.encoder.layer.0.attention.attention.query.weight"
    if key in arrays:
        query = gradients["encoder"]["blocks"]["0"]["attn"]["qkv"]["kernel"][:, 0]
        assert golden.relative_error(query.reshape(query.shape[0], -1).T, arrays[key]) < TOLERANCE


def at(tree, name):
    """The leaf of our tree, stacked or not, for a name of the original code."""
    path = golden.our_path(name)
    for key in path:
        if "stacked" in tree:
            return at_path(tree["stacked"], path[path.index(key) + 1 :])[int(key)]
        tree = tree[key]
    return tree


def at_path(tree, path):
    for key in path:
        tree = tree[key]
    return tree


@pytest.mark.parametrize(
    "name, pooling", [("mae_finetune_cls", "class_token"), ("mae_finetune_avgpool", "mean_then_norm")]
)
def test_classifier_equals_the_original(name, pooling):
    settings, arrays = golden.case(name), golden.arrays(name)
    model = settings["model"]
    parameters = golden.our_parameters(golden.checkpoint(name), model)
    encoder = VisionTransformer(encoder_config(model, position="learned", final_norm=pooling == "class_token"))
    classifier = Classifier(encoder, model["num_classes"], pooling)
    logits, features = jax.jit(classifier.apply)({"params": parameters}, golden.channels_last(arrays["images"]))
    assert golden.relative_error(features, arrays["features"]) < TOLERANCE
    assert golden.relative_error(logits, arrays["logits"]) < TOLERANCE
