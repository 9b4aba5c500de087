"""Models beside the reference implementations in PyTorch; most of it needs torch and transformers."""

import json
import shutil
import sys

import jax
import numpy as np
import pytest

from mim_jax.data.preprocessing import Preprocessing
from mim_jax.errors import InputError
from mim_jax.models.swin import SwinConfig
from mim_jax.models.vit import VisionTransformerConfig
from mim_jax.pretraining.lut import Lut
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.weights.loading import load
from mim_jax.weights.model import Model, parameter_shapes
from mim_jax.weights.verifying import Row, Verification, verify
from tests.golden_cases import FOLDER, case

pytestmark = pytest.mark.filterwarnings("default")  # the warnings of other libraries

SMALL = VisionTransformerConfig((32, 32), (8, 8), width=8, depth=2, num_heads=2)

# Files of other codes, what is to be stated of them, and their nearest relatives in transformers.
FILES = [
    ("mae_pretrain", {"num_heads": 3, "decoder.num_heads": 2}, "ViTMAEForPreTraining"),
    ("timm_vit_cls", {"num_heads": 3}, "ViTForImageClassification"),
    ("timm_vit_gap_nocls", {"num_heads": 3}, "IJepaForImageClassification"),
    ("timm_deit_distilled", {"num_heads": 3}, "DeiTForImageClassificationWithTeacher"),
    ("timm_deit3", {"num_heads": 3}, "Dinov2Model"),
    ("dinov2_original_reg4_swiglu", {"num_heads": 3}, "Dinov2WithRegistersModel"),
    ("ibot_full_checkpoint", {"num_heads": 3}, "ViTModel"),
    ("timm_beit", {}, "BeitForImageClassification"),
    ("timm_beit_shared_abs", {}, "BeitForImageClassification"),
    ("simmim_vit_pretrain", {}, "BeitModel"),
    ("timm_swin", {}, "SwinForImageClassification"),
    ("simmim_swinv2_pretrain", {}, "Swinv2ForMaskedImageModeling"),
]

FOLDERS = [
    ("hf_vit", "ViTForImageClassification", "logits"),
    ("hf_vitmae", "ViTMAEForPreTraining", "reconstruction"),
    ("hf_vit_masked_image_modeling", "ViTForMaskedImageModeling", "reconstruction"),
    ("hf_swinv2", "Swinv2ForImageClassification", "logits"),
    ("hf_beit_v5names", "BeitForImageClassification", "logits"),
    ("hf_beit_masked_image_modeling", "BeitForMaskedImageModeling", "tokens"),
    ("hf_dinov2_registers_swiglu", "Dinov2WithRegistersForImageClassification", "logits"),
]


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torch")
    return pytest.importorskip("transformers")


def golden(name, stated):
    path = FOLDER / name / "checkpoint.pth"
    return path, load(path, stated=stated)


def hugging_face_folder(name, architecture, folder):
    """A golden case as a folder that transformers reads."""
    classes = {"num_labels": 7} if "Classification" in architecture else {}
    description = case(name)["model"] | {"architectures": [architecture]} | classes
    (folder / "config.json").write_text(json.dumps(description))
    shutil.copy(FOLDER / name / "checkpoint.pth", folder / "pytorch_model.bin")
    return folder


def made(config, objective=None):
    """A model with weights out of a sine."""
    leaves, structure = jax.tree.flatten(parameter_shapes(config, objective))
    waves = [
        np.sin(np.arange(leaf.size, dtype=np.float32) + 7 * i).reshape(leaf.shape) for i, leaf in enumerate(leaves)
    ]
    return Model(config, jax.tree.unflatten(structure, waves), Preprocessing(config.image_size), objective)


@pytest.mark.parametrize("name, stated, reference", FILES)
def test_a_file_of_another_code_computes_what_transformers_does_with_its_weights(transformers, name, stated, reference):
    path, model = golden(name, stated)
    outcome = verify(path, model)
    assert outcome.passed, outcome.table
    assert outcome.reference == f"{reference} of transformers {transformers.__version__}"
    blocks = [row.what for row in outcome.rows if "/blocks/" in row.what]
    assert len(blocks) == sum(model.encoder_config.depths)


@pytest.mark.parametrize("name, reference, last", FOLDERS)
def test_a_folder_is_loaded_by_transformers_itself(transformers, tmp_path, name, reference, last):
    folder = hugging_face_folder(name, reference, tmp_path)
    outcome = verify(folder, load(folder))
    assert outcome.passed, outcome.table
    assert outcome.reference.split()[0] == reference and outcome.rows[-1].what == last


def test_a_changed_weight_is_found_in_its_block(transformers, tmp_path):
    folder = hugging_face_folder("hf_vit", "ViTForImageClassification", tmp_path)
    model = load(folder)
    model.parameters["encoder"]["blocks"]["1"]["mlp"]["fc1"]["kernel"][0, 0] += 0.1
    outcome = verify(folder / "pytorch_model.bin", model)
    assert not outcome.passed and outcome.begins == "encoder/blocks/1"
    assert [row.relative <= 1e-5 for row in outcome.rows] == [True, True, False, False, False]
    assert outcome.table.splitlines()[-1].startswith("differs from encoder/blocks/1 on: ViTForImageClassification")


def test_wrong_heads_and_a_wrong_epsilon_are_found(transformers, tmp_path):
    folder = hugging_face_folder("hf_vit", "ViTForImageClassification", tmp_path)
    assert verify(folder, load(folder, stated={"num_heads": 2})).begins == "encoder/blocks/0"
    assert verify(folder, load(folder, stated={"norm_epsilon": 1e-2})).begins == "encoder/blocks/0"


def test_the_mask_of_shifted_windows_counts_once_where_scales_are_at_their_limit(transformers):
    model = made(SwinConfig(2, (32, 32), width=8, depths=(2, 1), num_heads=(8, 16), window=4))
    for stage in ("stage0", "stage1"):
        for block in model.parameters["encoder"][stage]["blocks"].values():
            block["attn"]["logit_scale"] = np.full_like(block["attn"]["logit_scale"], 9.0)
    outcome = verify("swinv2.pth", model)
    assert outcome.passed, outcome.table


def test_lut_is_compared_as_the_autoencoder_that_it_has_inside(transformers):
    mae = MaskedAutoencoder(SMALL, DecoderConfig(8, 1, 2))
    outcome = verify("lut.pth", made(SMALL, Lut(mae)))
    assert outcome.passed and outcome.rows[-1].what == "reconstruction"


def test_a_head_that_transformers_lacks_is_left_out_and_noted(transformers):
    outcome = verify(*golden("timm_vit_avg", {"num_heads": 3}))
    assert outcome.passed and outcome.rows[-1].what == "tokens"
    assert outcome.notes == ("what stands behind the encoder has no reference",)


def test_an_encoder_that_transformers_lacks_is_one_clear_sentence(transformers):
    with pytest.raises(InputError, match="transformers has no encoder like this one"):
        verify(*golden("timm_vit_qknorm", {"num_heads": 3}))
    cut = SwinConfig(1, (16, 16), width=4, depths=(1, 1), num_heads=(1, 2), window=4)
    with pytest.raises(InputError, match="SwinModel is the nearest .*relative_position_bias_table"):
        verify("swin.pth", made(cut))


def test_a_folder_of_an_unknown_class_is_one_clear_sentence(transformers, tmp_path):
    folder = hugging_face_folder("hf_vit", "TensorForImages", tmp_path)
    with pytest.raises(InputError, match="is of class TensorForImages, which transformers"):
        verify(folder, load(folder))


def test_the_images_follow_the_seed(transformers):
    path, model = golden("timm_vit_cls", {"num_heads": 3})
    rows = [verify(path, model, images=1, seed=seed).rows for seed in (3, 3, 4)]
    assert rows[0] == rows[1] != rows[2]


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_pytorch_one_clear_sentence_says_what_to_install(monkeypatch, missing):
    if missing == "transformers":
        pytest.importorskip("torch")
    model = made(SMALL)  # einops, which this needs, wants to import a torch that is named there
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=f"{missing} is not installed here; pip install torch transformers"):
        verify("model.pth", model)


def test_a_table_says_where_a_difference_begins():
    rows = (Row("embedded patches", 1e-7, 1e-8), Row("encoder/blocks/0", 0.5, 0.25), Row("tokens", np.nan, np.nan))
    outcome = Verification("ViTModel of transformers 9", rows, 1e-5, ("nothing else",))
    assert outcome.table.splitlines() == [
        "                   largest  relative",
        "embedded patches   1.0e-07   1.0e-08",
        "encoder/blocks/0   5.0e-01   2.5e-01",
        "tokens                 nan       nan",
        "nothing else",
        "differs from encoder/blocks/0 on: ViTModel of transformers 9, tolerance 1e-05",
    ]
    assert Verification("", rows[2:], 1e-5).begins == "tokens"
