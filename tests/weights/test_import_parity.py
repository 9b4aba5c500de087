"""Every golden checkpoint, imported, gives what the original network gave."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from mim_jax.pretraining.mae import MaskedAutoencoder
from mim_jax.pretraining.simmim import SimMIM
from mim_jax.weights.loading import load
from mim_jax.weights.model import Model
from tests import golden_cases as golden

TOLERANCE = 1e-5

HUGGING_FACE = [
    "hf_vit", "hf_vit_v5names", "hf_deit", "hf_beit", "hf_beit_v5names", "hf_beit_shared_abs_cls", "hf_dinov2",
    "hf_dinov2_v5names", "hf_dinov2_registers_swiglu", "hf_swin", "hf_swinv2",
]  # fmt: skip
MASKED = [
    "simmim_vit_pretrain", "simmim_swin_pretrain", "simmim_swinv2_pretrain", "hf_vit_masked_image_modeling",
    "hf_swin_masked_image_modeling", "hf_swin_masked_image_modeling_v5names", "hf_swinv2_masked_image_modeling",
]  # fmt: skip
MAE = ["mae_pretrain", "mae_pretrain_normpix", "hf_vitmae", "hf_vitmae_normpix", "hf_vitmae_v5names"]
NETWORKS = [
    "timm_vit_cls", "timm_vit_nohead", "timm_vit_avg", "timm_vit_gap_nocls", "timm_vit_qknorm", "timm_deit_distilled",
    "timm_deit3", "timm_dinov2", "timm_dinov2_reg4", "timm_dinov2_reg4_swiglu", "timm_beit", "timm_beit_shared_abs",
    "timm_swin", "timm_swinv2", "deit_checkpoint", "deit_distilled_checkpoint", "deit_training_checkpoint",
    "dino_backbone", "dino_full_checkpoint", "dino_full_checkpoint_ddp_teacher", "dinov2_original",
    "dinov2_original_reg4", "dinov2_original_reg4_swiglu", "dinov2_teacher_checkpoint", "ibot_backbone",
    "ibot_backbone_student", "ibot_full_checkpoint", "mocov3_checkpoint", "mocov3_linear_probe", "mae_finetune_cls",
    "mae_finetune_avgpool", "simmim_vit_finetune", "swin_classifier", "swinv2_classifier",
]  # fmt: skip
SELECTED = [
    ("deit_training_checkpoint", "model_ema", "ema_tokens"),
    ("dino_full_checkpoint", "student", "student_tokens"),
    ("dino_full_checkpoint_ddp_teacher", "student", "student_tokens"),
    ("ibot_full_checkpoint", "student", "student_tokens"),
    ("mocov3_checkpoint", "momentum_encoder", "momentum_tokens"),
]


def statements(name: str) -> dict[str, Any]:
    """What the weights of a case cannot tell: heads of unusual widths, and sizes of a Swin without buffers."""
    model = golden.case(name).get("model", {})
    stated = {}
    if isinstance(model.get("num_heads"), int):
        stated["num_heads"] = model["num_heads"]
    if "decoder_num_heads" in model:
        stated["decoder.num_heads"] = model["decoder_num_heads"]
    if "norm_pix_loss" in model:
        stated["normalise_target"] = model["norm_pix_loss"]
    if name.startswith("timm_swin"):
        stated |= {"window": model["window_size"], "image_size": model["img_size"]}
    if "pretrained_window_sizes" in model and "depths" in model:
        stated["pretrained_windows"] = model["pretrained_window_sizes"]
    return stated


def load_case(name: str, select: str = "") -> Model:
    """The model of a case, read as a user would: a Hugging Face folder, or a file and what it does not tell."""
    if name.startswith("hf_"):
        return load(golden.FOLDER / name, select=select)
    return load(golden.FOLDER / name / "checkpoint.pth", select=select, stated=statements(name))


def agree(ours: Any, theirs: Any) -> None:
    assert golden.relative_error(np.asarray(ours), theirs) <= TOLERANCE


def encode(model: Model, images: np.ndarray, **options: Any) -> Any:
    encoder = model.encoder
    return jax.jit(lambda tree, images, options: encoder.apply({"params": tree}, images, taps=(1,), **options))(
        model.parameters["encoder"], images, options
    )


@pytest.mark.parametrize("name", NETWORKS + HUGGING_FACE)
def test_imported_network_gives_the_recorded_outputs(name):
    model, arrays = load_case(name), golden.arrays(name)
    images = golden.channels_last(arrays["images"])
    out = encode(model, images)
    if "tokens" in arrays:
        agree(out.tokens, arrays["tokens"])
    if "first_block" in arrays:
        agree(out.taps[0].tokens, arrays["first_block"])
    assert ("logits" in arrays) == (model.objective is not None)
    if "logits" in arrays:
        agree(jax.jit(model.objective.classifier.apply)({"params": model.parameters}, images)[0], arrays["logits"])


@pytest.mark.parametrize("name, select, expected", SELECTED)
def test_selected_network_gives_the_recorded_outputs(name, select, expected):
    arrays = golden.arrays(name)
    agree(encode(load_case(name, select), golden.channels_last(arrays["images"])).tokens, arrays[expected])


@pytest.mark.parametrize("name", ["dinov2_original", "dinov2_original_reg4_swiglu"])
def test_imported_mask_token_stands_in_for_patches(name):
    arrays = golden.arrays(name)
    mask = arrays["mask"].reshape(3, -1).astype(np.float32)
    out = encode(load_case(name), golden.channels_last(arrays["images"]), mask=mask)
    agree(out.tokens, arrays["tokens_masked"])


@pytest.mark.parametrize("name", MAE)
def test_imported_autoencoder_gives_the_recorded_reconstruction_and_loss(name):
    model, arrays = load_case(name), golden.arrays(name)
    batch = {"image": golden.channels_last(arrays["images"]), "noise": arrays["noise"]}
    assert isinstance(model.objective, MaskedAutoencoder)
    ratio = golden.case(name).get("mask_ratio") or golden.case(name)["model"].get("mask_ratio", 0.75)
    objective = dataclasses.replace(model.objective, mask_ratio=ratio)
    out, loss = jax.jit(lambda tree, batch: (objective.reconstruct(tree, batch), objective.loss(tree, batch)[0]))(
        model.parameters, batch
    )
    agree(out.prediction, arrays["pred" if "pred" in arrays else "logits"])
    agree(loss, arrays["loss"])


def test_imported_lut_gives_the_recorded_reconstruction():
    arrays, model = golden.arrays("lut_pretrain"), load_case("lut_pretrain")
    batch = {"image": golden.channels_last(arrays["images1"]), "noise": arrays["noise"]}
    agree(jax.jit(model.objective.reconstruct)(model.parameters, batch).prediction, arrays["pred"])
    assert "projector" not in model.parameters
    assert any("head.0.weight" in note for note in model.notes)


def test_teacher_of_lut_can_be_selected():
    theirs = golden.checkpoint("lut_pretrain", "model_ema")
    student, teacher = load_case("lut_pretrain"), load_case("lut_pretrain", "model_ema")
    np.testing.assert_array_equal(teacher.parameters["encoder"]["norm"]["scale"], theirs["norm.weight"])
    assert (teacher.parameters["encoder"]["norm"]["scale"] != student.parameters["encoder"]["norm"]["scale"]).any()


@pytest.mark.parametrize("name", MASKED)
def test_imported_simmim_gives_the_recorded_reconstruction_and_loss(name):
    model, case, arrays = load_case(name), golden.case(name), golden.arrays(name)
    assert isinstance(model.objective, SimMIM)
    objective = dataclasses.replace(model.objective, target_window=case.get("norm_target_patch_size", 0))
    mask = arrays["mask"].reshape(arrays["mask"].shape[0], -1).astype(np.float32)
    batch = {"image": golden.channels_last(arrays["images"]), "mask": mask}
    out, loss = jax.jit(lambda tree, batch: (objective.reconstruct(tree, batch), objective.loss(tree, batch)[0]))(
        model.parameters, batch
    )
    agree(np.moveaxis(np.asarray(out.prediction), 3, 1), arrays["reconstruction"])
    agree(loss, arrays["loss"])


def test_imported_encoder_of_hugging_face_mae_gives_the_recorded_tokens():
    arrays = golden.arrays("hf_vitmae_encoder")
    keep = np.argsort(arrays["noise"], axis=1)[:, :4]
    out = encode(load_case("hf_vitmae_encoder"), golden.channels_last(arrays["images"]), keep=keep)
    agree(out.tokens, arrays["tokens"])


def test_imported_beit_predicts_with_its_mask_token():
    arrays, name = golden.arrays("hf_beit_masked_image_modeling"), "hf_beit_masked_image_modeling"
    model, head = load_case(name), golden.checkpoint(name)
    out = encode(model, golden.channels_last(arrays["images"]), mask=arrays["mask"].astype(np.float32))
    agree(np.asarray(out.patches) @ head["lm_head.weight"].T + head["lm_head.bias"], arrays["logits"])
