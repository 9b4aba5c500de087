"""Every flavour of the Vision Transformer against the original PyTorch code."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from mim_jax.models.classifier import Classifier
from mim_jax.models.vit import VisionTransformer, VisionTransformerConfig
from mim_jax.ops.positions import position_table, resize_position_table
from tests import golden_cases as golden
from tests.vit_golden import parameters

TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Flavour:
    """What a case needs beside its sizes: fields of the configuration, and where its tensors lie."""

    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    readout: str = ""
    key: str = "model"
    prefix: str = ""
    outputs: str = "tokens"
    layout: str = "timm"


LAYER_SCALE = {"layer_scale": 1.0}
NO_CLASS_POSITION = {"position_prefix": 0}
SWIGLU = {"mlp": "swiglu", "mlp_ratio": 16 / 3}
BEIT = {"qkv_bias": "query_value", "layer_scale": 0.1, "position": "none", "position_prefix": 0}
PER_BLOCK, SHARED = {"relative_position_bias": "per_block"}, {"relative_position_bias": "shared"}
BEIT_ABSOLUTE = BEIT | SHARED | {"position": "learned", "position_prefix": 1}
DISTILLED = {"distillation_token": True, "position_prefix": 2}
REGISTERS = {"registers": 4}

FLAVOURS = {
    "timm_vit_cls": Flavour({}, "class_token"),
    "timm_vit_nohead": Flavour(),
    "timm_vit_avg": Flavour({"final_norm": False}, "mean_then_norm"),
    "timm_vit_gap_nocls": Flavour({"class_token": False} | NO_CLASS_POSITION, "mean"),
    "timm_vit_qknorm": Flavour({"query_key_norm": True, "qkv_bias": "none"}, "class_token"),
    "timm_deit_distilled": Flavour(DISTILLED, "distilled"),
    "timm_deit3": Flavour(LAYER_SCALE | NO_CLASS_POSITION, "class_token"),
    "timm_dinov2": Flavour(LAYER_SCALE),
    "timm_dinov2_reg4": Flavour(LAYER_SCALE | NO_CLASS_POSITION | REGISTERS),
    "timm_dinov2_reg4_swiglu": Flavour(LAYER_SCALE | NO_CLASS_POSITION | REGISTERS | SWIGLU, layout="timm_swiglu"),
    "timm_beit": Flavour(BEIT | PER_BLOCK | {"final_norm": False}, "mean_then_norm"),
    "timm_beit_shared_abs": Flavour(BEIT_ABSOLUTE, "class_token"),
    "deit_checkpoint": Flavour({}, "class_token"),
    "deit_distilled_checkpoint": Flavour(DISTILLED, "distilled"),
    "deit_training_checkpoint": Flavour({}, "class_token"),
    "deit_training_checkpoint (average)": Flavour({}, "class_token", "model_ema", outputs="ema_tokens"),
    "dino_backbone": Flavour(),
    "dino_full_checkpoint": Flavour({}, key="teacher", prefix="backbone."),
    "dino_full_checkpoint (student)": Flavour(
        {}, key="student", prefix="module.backbone.", outputs="student_tokens"
    ),
    "dino_full_checkpoint_ddp_teacher": Flavour({}, key="teacher", prefix="module.backbone."),
    "dinov2_original": Flavour(LAYER_SCALE | {"mask_token": True}),
    "dinov2_original_reg4": Flavour(LAYER_SCALE | REGISTERS | {"mask_token": True}),
    "dinov2_original_reg4_swiglu": Flavour(LAYER_SCALE | REGISTERS | SWIGLU | {"mask_token": True}),
    "dinov2_teacher_checkpoint": Flavour(LAYER_SCALE | {"mask_token": True}, key="teacher", prefix="backbone."),
    "ibot_backbone": Flavour({}, key="state_dict"),
    "ibot_backbone_student": Flavour({"mask_token": True}, key="state_dict"),
    "ibot_full_checkpoint": Flavour({}, key="teacher", prefix="backbone."),
    "ibot_full_checkpoint (student)": Flavour(
        {"mask_token": True}, key="student", prefix="module.backbone.", outputs="student_tokens"
    ),
    "mocov3_checkpoint": Flavour({"position": "sincos_rows_first"}, key="state_dict", prefix="module.base_encoder."),
    "mocov3_checkpoint (momentum)": Flavour(
        {"position": "sincos_rows_first"}, key="state_dict", prefix="module.momentum_encoder.",
        outputs="momentum_tokens",
    ),
    "mocov3_linear_probe": Flavour(
        {"position": "sincos_rows_first"}, "class_token", "state_dict", "module.", outputs=""
    ),
    "hf_vit": Flavour({}, "class_token", layout="hugging_face"),
    "hf_vit_v5names": Flavour({}, "class_token", layout="hugging_face"),
    "hf_beit_v5names": Flavour(BEIT | PER_BLOCK | {"final_norm": False}, "mean_then_norm", layout="hugging_face"),
    "hf_dinov2_v5names": Flavour(
        LAYER_SCALE | {"mask_token": True}, "class_token_and_mean", layout="hugging_face"
    ),
    "hf_deit": Flavour(DISTILLED, "distilled", layout="hugging_face"),
    "hf_beit": Flavour(BEIT | PER_BLOCK | {"final_norm": False}, "mean_then_norm", layout="hugging_face"),
    "hf_beit_shared_abs_cls": Flavour(BEIT_ABSOLUTE, "class_token", layout="hugging_face"),
    "hf_dinov2": Flavour(LAYER_SCALE | {"mask_token": True}, "class_token_and_mean", layout="hugging_face"),
    "hf_dinov2_registers_swiglu": Flavour(
        LAYER_SCALE | REGISTERS | SWIGLU | {"mask_token": True, "mlp_ratio": 8 / 3}, "class_token_and_mean",
        layout="hugging_face",
    ),
    "simmim_vit_finetune": Flavour(BEIT | PER_BLOCK | {"final_norm": False}, "mean_then_norm", outputs=""),
}  # fmt: skip


def config_of(case: dict[str, Any], **fields: Any) -> VisionTransformerConfig:
    """Sizes of a case in either vocabulary, with other fields on top."""
    model = case["model"]
    size, patch = model.get("img_size") or model["image_size"], model["patch_size"]
    width = model.get("embed_dim") or model["hidden_size"]
    ratio = model["intermediate_size"] / width if "intermediate_size" in model else model["mlp_ratio"]
    sizes = {
        "image_size": (size, size),
        "patch_size": (patch, patch),
        "width": width,
        "depth": model.get("depth") or model["num_hidden_layers"],
        "num_heads": model.get("num_heads") or model["num_attention_heads"],
        "mlp_ratio": float(ratio),
        "position": "learned",
        "kernel_init": "normal",
        "norm_epsilon": model["layer_norm_eps"],
    }
    return VisionTransformerConfig(**(sizes | fields))


def load(name: str) -> tuple[VisionTransformerConfig, dict[str, Any], dict[str, np.ndarray], Flavour]:
    """Configuration, our parameters, and arrays of a flavour."""
    folder, flavour = name.split(" ")[0], FLAVOURS[name]
    config = config_of(golden.case(folder), **flavour.fields)
    tensors = golden.checkpoint(folder, flavour.key)
    tensors = {k.removeprefix(flavour.prefix): v for k, v in tensors.items() if k.startswith(flavour.prefix)}
    return config, parameters(tensors, config.num_heads, layout=flavour.layout), golden.arrays(folder), flavour


@pytest.mark.parametrize("name", FLAVOURS)
def test_tokens_and_logits_equal_the_original(name):
    config, tree, arrays, flavour = load(name)
    images = golden.channels_last(arrays["images"])
    encoder = VisionTransformer(config)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), images)["params"]
    assert jax.tree.map(np.shape, shapes) == jax.tree.map(np.shape, tree["encoder"])

    def run(tree: Any, images: Any) -> Any:
        out = encoder.apply({"params": tree["encoder"]}, images, taps=(1,))
        if not flavour.readout:
            return out, None
        head = Classifier(encoder, tree["head"]["bias"].size, flavour.readout, config.norm_epsilon)
        return out, head.apply({"params": tree}, images)

    out, classified = jax.jit(run)(tree, images)
    if flavour.outputs:
        assert golden.relative_error(out.tokens, arrays[flavour.outputs]) < TOLERANCE
    if "first_block" in arrays:
        assert golden.relative_error(out.taps[0].tokens, arrays["first_block"]) < TOLERANCE
    if classified is not None:
        logits = arrays["ema_logits" if flavour.outputs.startswith("ema") else "logits"]
        assert golden.relative_error(classified[0], logits) < TOLERANCE
        if "pooled" in arrays and flavour.readout != "distilled":
            assert golden.relative_error(classified[1], arrays["pooled"]) < TOLERANCE


@pytest.mark.parametrize(
    "name, expected",
    [
        ("dinov2_original", "tokens_masked"),
        ("dinov2_original_reg4", "tokens_masked"),
        ("dinov2_original_reg4_swiglu", "tokens_masked"),
        ("ibot_full_checkpoint (student)", "student_tokens_masked"),
    ],
)
def test_masked_patches_become_the_mask_token(name, expected):
    config, tree, arrays, _ = load(name)
    images, mask = golden.channels_last(arrays["images"]), arrays["mask"].reshape(3, -1).astype(np.float32)
    apply = jax.jit(VisionTransformer(config).apply)
    out = apply({"params": tree["encoder"]}, images, mask=mask)
    assert golden.relative_error(out.tokens, arrays[expected]) < TOLERANCE


@pytest.mark.parametrize(
    "name, images, resampling, expected",
    [
        ("dino_backbone", "images_larger", "bicubic_offset", ("tokens_larger_image",)),
        ("dino_backbone", "images_wide", "bicubic_offset", ("tokens_wide_image",)),
        ("dinov2_original", "images_larger", "bicubic_offset", ("cls_larger", "patch_tokens_larger")),
        ("dinov2_original", "images_wide", "bicubic_offset", ("patch_tokens_wide",)),
        ("dinov2_original_reg4", "images_larger", "bicubic_antialiased", ("cls_larger", "patch_tokens_larger")),
        ("dinov2_original_reg4", "images_wide", "bicubic_antialiased", ("patch_tokens_wide",)),
        ("hf_dinov2", "images_larger", "bicubic", ("tokens_larger",)),
    ],
)
def test_other_image_sizes_equal_the_original(name, images, resampling, expected):
    config, tree, arrays, _ = load(name)
    images = golden.channels_last(arrays[images])
    other = dataclasses.replace(config, image_size=images.shape[1:3])
    table = tree["encoder"]["pos_embed"]["table"]
    table = resize_position_table(table, config.grid, other.grid, config.position_prefix, resampling)
    encoder = tree["encoder"] | {"pos_embed": {"table": table}}
    out = jax.jit(VisionTransformer(other).apply)({"params": encoder}, images)
    found = {"cls": out.tokens[:, 0], "patch": out.patches, "tokens": out.tokens}
    for key in expected:
        assert golden.relative_error(found[key.split("_")[0]], arrays[key]) < TOLERANCE, key


@pytest.mark.parametrize("target", ["8x8", "3x3", "7x5", "2x2"])
def test_antialiased_positions_equal_timm(target):
    arrays = golden.arrays("timm_pos_embed_resample")
    grid = tuple(map(int, target.split("x")))
    ours = resize_position_table(arrays["source"][0], (4, 4), grid, resampling="bicubic_antialiased")
    assert golden.relative_error(ours, arrays[f"target_{target}"][0]) < TOLERANCE


@pytest.mark.parametrize("key", ["16_4", "32_3", "96_7"])
def test_fixed_positions_equal_moco_v3(key):
    width, side = map(int, key.split("_"))
    table = position_table("sincos_rows_first", (side, side), width, 1)
    assert golden.relative_error(table, golden.arrays("mocov3_sincos_pos_embed")[key]) < TOLERANCE


def test_masked_image_modeling_logits_equal_beit():
    case, arrays = golden.case("hf_beit_masked_image_modeling"), golden.arrays("hf_beit_masked_image_modeling")
    config = config_of(case, **(BEIT | SHARED | {"mask_token": True}))
    tree = parameters(golden.checkpoint("hf_beit_masked_image_modeling"), config.num_heads, layout="hugging_face")
    images, mask = golden.channels_last(arrays["images"]), arrays["mask"].astype(np.float32)
    out = jax.jit(VisionTransformer(config).apply)({"params": tree["encoder"]}, images, mask=mask)
    logits = out.patches @ tree["head"]["kernel"] + tree["head"]["bias"]
    assert golden.relative_error(logits, arrays["logits"]) < TOLERANCE


def test_encoder_alone_of_hugging_face_mae_equals_the_original():
    case, arrays = golden.case("hf_vitmae_encoder"), golden.arrays("hf_vitmae_encoder")
    config = config_of(case, position="sincos")
    tree = parameters(golden.checkpoint("hf_vitmae_encoder"), config.num_heads, layout="hugging_face")
    keep = np.argsort(arrays["noise"], axis=1)[:, :4]
    out = jax.jit(VisionTransformer(config).apply)(
        {"params": tree["encoder"]}, golden.channels_last(arrays["images"]), keep=keep
    )
    assert golden.relative_error(out.tokens, arrays["tokens"]) < TOLERANCE
