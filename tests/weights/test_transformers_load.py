"""Models of ours, exported, in PyTorch and transformers; needs both."""

import dataclasses

import jax
import numpy as np
import pytest

from mim_jax.data.preprocessing import Preprocessing
from mim_jax.models.swin import SwinConfig
from mim_jax.models.vit import VisionTransformerConfig
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.pretraining.simmim import SimMIM
from mim_jax.pretraining.supervised import Supervised
from mim_jax.weights.exporting import export, export_arrays
from mim_jax.weights.model import Model
from mim_jax.weights.verifying import verify

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("default")  # the warnings of other libraries

VIT = VisionTransformerConfig((32, 32), (8, 8), width=8, depth=2, num_heads=2)
SWIN = SwinConfig(2, (32, 32), width=4, depths=(2, 1), num_heads=(1, 2), window=4)
BEIT = dataclasses.replace(
    VIT, position="none", position_prefix=0, relative_position_bias="per_block", qkv_bias="query_value", layer_scale=0.1
)
DINOV2 = dataclasses.replace(VIT, position="learned", layer_scale=1e-5, mask_token=True)
DISTILLED = dataclasses.replace(VIT, position="learned", distillation_token=True, position_prefix=2)

COMMON = {"image_size": 32, "patch_size": 8, "layer_norm_eps": 1e-6, "num_labels": 5}
SIZES = COMMON | {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
DECODER = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
STAGES = {"embed_dim": 4, "depths": [2, 1], "num_heads": [1, 2], "window_size": 4}
SIZES_OF_SWIN = COMMON | STAGES | {"patch_size": 4, "layer_norm_eps": 1e-5}

CASES = [
    ("hf_vit", Supervised(VIT, 5, "class_token"), "ViT", "ForImageClassification", SIZES),
    (
        "hf_vitmae",
        MaskedAutoencoder(VIT, DecoderConfig(8, 1, 2)),
        "ViTMAE",
        "ForPreTraining",
        SIZES | {f"decoder_{name}": size for name, size in DECODER.items()},
    ),
    (
        "hf_vit_masked",
        SimMIM(dataclasses.replace(VIT, mask_token=True), mask_patch=8),
        "ViT",
        "ForMaskedImageModeling",
        SIZES | {"encoder_stride": 8},
    ),
    ("hf_deit", Supervised(DISTILLED, 5, "distilled"), "DeiT", "ForImageClassificationWithTeacher", SIZES),
    (
        "hf_beit",
        Supervised(dataclasses.replace(BEIT, final_norm=False), 5, "mean_then_norm"),
        "Beit",
        "ForImageClassification",
        SIZES | {"use_relative_position_bias": True},
    ),
    ("hf_dinov2", Supervised(DINOV2, 5, "class_token_and_mean"), "Dinov2", "ForImageClassification", SIZES),
    ("hf_swinv2", Supervised(SWIN, 5, "mean"), "Swinv2", "ForImageClassification", SIZES_OF_SWIN),
]


def initialised(objective):
    """A model with fresh weights, and some noise on them, since many start as zeros."""
    parameters, random = objective.init(jax.random.key(0)), np.random.default_rng(0)
    noisy = lambda leaf: (np.asarray(leaf) + 0.1 * random.standard_normal(leaf.shape)).astype(np.float32)
    config = objective.encoder_config
    return Model(config, jax.tree.map(noisy, parameters), Preprocessing(config.image_size), objective)


@pytest.mark.parametrize("layout, objective, name, task, fields", CASES, ids=[case[0] for case in CASES])
def test_an_exported_folder_is_a_model_of_transformers(tmp_path, layout, objective, name, task, fields):
    model = initialised(objective)
    configuration = getattr(transformers, f"{name}Config")(**fields, architectures=[name + task])
    configuration.save_pretrained(tmp_path)
    export(model, tmp_path / "model.safetensors", layout=layout)
    outcome = verify(tmp_path, model)
    assert outcome.passed, outcome.table
    assert outcome.rows[-1].what in ("logits", "reconstruction")


def test_an_exported_pth_holds_nothing_but_tensors(tmp_path):
    model = initialised(MaskedAutoencoder(VIT, DecoderConfig(8, 1, 2)))
    weights = torch.load(export(model, tmp_path / "model.pth"), weights_only=True)
    arrays = export_arrays(model)
    assert set(weights) == {"model"} and set(weights["model"]) == set(arrays)
    assert all(np.array_equal(tensor.numpy(), arrays[name]) for name, tensor in weights["model"].items())
