"""The families of models in Hugging Face's `transformers`: what of ours they compute, and how they are configured."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from mim_jax.models.swin_config import SwinConfig
from mim_jax.models.vit_config import VisionTransformerConfig
from mim_jax.pretraining.mae import MaskedAutoencoder
from mim_jax.pretraining.supervised import Supervised
from mim_jax.weights.methods import METHODS
from mim_jax.weights.model import Model

CLASSIFIER, MASKED = "ForImageClassification", "ForMaskedImageModeling"


@dataclasses.dataclass(frozen=True)
class Kind:
    """One family of models of transformers.

    Attributes:
        name: what the names of its classes begin with.
        prefix: what the encoder is called in a model that has more.
        layout: our layout with the names of its encoder and its heads.
        having: field of our configuration to the values with which it computes the same.
        fields: its own configuration.
        tasks: readout of a classifier, or name of another method, to what the class ends with.
    """

    name: str
    prefix: str
    layout: str
    having: Mapping[str, tuple[Any, ...]]
    fields: Callable[[Model], dict[str, Any]]
    tasks: Mapping[str, str]

    def fits(self, model: Model) -> bool:
        """Whether it computes what the encoder does, as far as the configuration tells; the weights tell the rest."""
        config = model.encoder_config
        pairs = config.image_size, config.patch_size, getattr(config, "window", (1, 1))
        square = all(rows == columns for rows, columns in pairs)
        return square and all(getattr(config, name, None) in values for name, values in self.having.items())


def method(model: Model) -> str:
    """Readout of a classifier, or name of another method; "" if transformers has nothing like it."""
    objective = model.objective
    if isinstance(objective, Supervised):
        return "" if objective.standardise else objective.readout
    return next((name for name, kind in METHODS.items() if type(objective) is kind), "")


def _common_fields(model: Model) -> dict[str, Any]:
    config, classes = model.encoder_config, getattr(model.objective, "num_classes", 0)
    return {
        "image_size": config.image_size[0],
        "patch_size": config.patch_size[0],
        "num_channels": config.channels,
        "layer_norm_eps": config.norm_epsilon,
        "qkv_bias": config.qkv_bias != "none",
        "encoder_stride": config.output_stride[0],
        "num_labels": classes,
    }


def _swin_fields(model: Model) -> dict[str, Any]:
    config = model.encoder_config
    assert isinstance(config, SwinConfig)
    return _common_fields(model) | {
        "embed_dim": config.width,
        "depths": list(config.depths),
        "num_heads": list(config.num_heads),
        "window_size": config.window_sides[0],
        "mlp_ratio": config.mlp_ratio,
        "use_absolute_embeddings": config.position == "learned",
        "pretrained_window_sizes": list(config.pretrained_windows or [0] * len(config.depths)),
    }


def _vit(model: Model) -> VisionTransformerConfig:
    """The configuration of a Vision Transformer: the kinds below have told it from a Swin."""
    assert isinstance(model.encoder_config, VisionTransformerConfig)
    return model.encoder_config


def _vit_fields(model: Model) -> dict[str, Any]:
    config = _vit(model)
    return _common_fields(model) | {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "intermediate_size": int(config.width * config.mlp_ratio),
    }


def _beit_fields(model: Model) -> dict[str, Any]:
    config = _vit(model)
    return _vit_fields(model) | {
        "use_mask_token": config.mask_token,
        "use_absolute_position_embeddings": config.position != "none",
        "use_relative_position_bias": config.relative_position_bias == "per_block",
        "use_shared_relative_position_bias": config.relative_position_bias == "shared",
        "layer_scale_init_value": config.layer_scale,
        "use_mean_pooling": method(model) == "mean_then_norm",
    }


def _dinov2_fields(model: Model) -> dict[str, Any]:
    config = _vit(model)
    return _vit_fields(model) | {
        "mlp_ratio": _whole_ratio(config.width, int(config.width * config.mlp_ratio), config.mlp == "swiglu"),
        "use_swiglu_ffn": config.mlp == "swiglu",
        "use_mask_token": config.mask_token,
        "num_register_tokens": config.registers,
    }


def _whole_ratio(width: int, hidden: int, gated: bool) -> int:
    """The whole number from which DINOv2 there gets our hidden width; 1, which fits no weights, if none does."""
    there = lambda ratio: 2 * ((width * ratio * 2 // 3 + 7) // 8 * 8) if gated else width * ratio
    return next((ratio for ratio in range(1, 17) if there(ratio) == hidden), 1)


def _mae_fields(model: Model) -> dict[str, Any]:
    objective = model.objective
    assert isinstance(objective, MaskedAutoencoder)
    decoder = objective.decoder_config
    return _vit_fields(model) | {
        "decoder_hidden_size": decoder.width,
        "decoder_num_hidden_layers": decoder.depth,
        "decoder_num_attention_heads": decoder.num_heads,
        "decoder_intermediate_size": int(decoder.width * decoder.mlp_ratio),
        "mask_ratio": objective.mask_ratio,
        "norm_pix_loss": objective.normalise_target,
    }


_SWIN = {name: ((),) for name in ("windows", "shift_stages")} | {
    "pad_windows": (False,),
    "norm_every": (0,),
    "norm_epsilon": (1e-5,),  # some norms have no other there
}
_VIT = {"query_key_norm": (False,), "class_token": (True,), "distillation_token": (False,)}
_UNBIASED = _VIT | {"qkv_bias": ("all", "none"), "relative_position_bias": ("none",)}
_PLAIN = _UNBIASED | {"mlp": ("gelu",), "layer_scale": (0.0,), "registers": (0,)}
_OF_SWIN, _OF_DINOV2 = {"mean": CLASSIFIER, "simmim": MASKED}, {"class_token_and_mean": CLASSIFIER}

KINDS = (
    Kind("Swin", "swin", "hf_swin", _SWIN | {"version": (1,), "qkv_bias": ("", "all", "none")}, _swin_fields, _OF_SWIN),
    Kind(
        "Swinv2",
        "swinv2",
        "hf_swinv2",
        _SWIN | {"version": (2,), "qkv_bias": ("", "query_value", "none"), "position": ("none",)},
        _swin_fields,
        _OF_SWIN,
    ),
    Kind("ViT", "vit", "hf_vit", _PLAIN, _vit_fields, {"class_token": CLASSIFIER, "simmim": MASKED}),
    Kind(
        "DeiT",
        "deit",
        "hf_deit",
        _PLAIN | {"distillation_token": (True,)},
        _vit_fields,
        {"class_token": CLASSIFIER, "distilled": f"{CLASSIFIER}WithTeacher"},
    ),
    Kind("IJepa", "ijepa", "hf_vit", _PLAIN | {"class_token": (False,)}, _vit_fields, {"mean": CLASSIFIER}),
    Kind(
        "Beit",
        "beit",
        "hf_beit",
        _VIT | {"qkv_bias": ("query_value",), "mlp": ("gelu",), "registers": (0,)},
        _beit_fields,
        {"mean_then_norm": CLASSIFIER, "class_token": CLASSIFIER},
    ),
    Kind("Dinov2", "dinov2", "hf_dinov2", _UNBIASED | {"registers": (0,)}, _dinov2_fields, _OF_DINOV2),
    Kind(
        "Dinov2WithRegisters",
        "dinov2_with_registers",
        "hf_dinov2_with_registers",
        _UNBIASED,
        _dinov2_fields,
        _OF_DINOV2,
    ),
)
"""Families of transformers; the first that fits is taken."""

MAE = Kind("ViTMAE", "vit", "hf_vitmae", _PLAIN, _mae_fields, {"mae": "ForPreTraining"})
