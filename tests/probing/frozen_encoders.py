"""Tokens and observations of encoders whose features the original code computed."""

import functools
from typing import Any

import jax
import numpy as np

from mim_jax.models.vit import VisionTransformer, VisionTransformerConfig
from mim_jax.probing.pooling import FrozenTokens
from mim_jax.probing.pooling.observing import RECORDERS, make_observer
from tests import golden_cases as golden
from tests.vit_golden import parameters

VIT, SIMMIM = "beyond_cls_attention_statistics", "beyond_cls_attention_statistics_simmim"
_BEIT = {"qkv_bias": "query_value", "layer_scale": 0.1, "position": "none", "position_prefix": 0}
_FIELDS = {VIT: {"position": "learned"}, SIMMIM: _BEIT | {"relative_position_bias": "shared"}}


def configuration(model: dict[str, Any], **fields: Any) -> VisionTransformerConfig:
    """The encoder of a golden case."""
    image, patch = model["img_size"], model["patch_size"]
    sizes = {"width": model["embed_dim"], "depth": model["depth"], "num_heads": model["num_heads"]}
    return VisionTransformerConfig((image, image), (patch, patch), **sizes, **fields)


def fields_of(name: str) -> dict[str, Any]:
    """What the encoder of a case has besides its sizes."""
    return _FIELDS[name]


@functools.cache
def of_case(name: str) -> tuple[list[FrozenTokens], dict[str, np.ndarray]]:
    """Tokens behind every block with all observations in it, and the arrays of the case."""
    tensors = {key.removeprefix("encoder."): array for key, array in golden.checkpoint(name).items()}
    model, arrays = golden.case(name)["model"], golden.arrays(name)
    config = configuration(model, **fields_of(name))
    images = golden.channels_last(arrays["images"])
    return encoded(config, parameters(tensors, model["num_heads"])["encoder"], images), arrays


def encoded(config: VisionTransformerConfig, parameters: Any, images: np.ndarray) -> list[FrozenTokens]:
    """Tokens behind every block, before the final norm, with all observations in it."""

    @jax.jit
    def run(parameters: Any, images: Any) -> list[FrozenTokens]:
        observer = make_observer(RECORDERS, config.grid, config.prefix)
        taps = tuple(range(1, config.depth + 1))
        out = VisionTransformer(config).apply({"params": parameters}, images, observer=observer, taps=taps)
        layers = [jax.tree.map(lambda stack, layer=layer: stack[layer], out.observations) for layer in range(len(taps))]
        return [FrozenTokens(tap.tokens, tap.grid, tap.prefix, seen) for tap, seen in zip(out.taps, layers)]

    return run(parameters, images)


@functools.cache
def of_appendix() -> list[FrozenTokens]:
    """The encoder of the specification's tables of single numbers: weights and images from numpy's old generator."""
    model = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4}
    generator = np.random.RandomState(1234)
    tensors = {name: _drawn(name, shape, generator) for name, shape in sorted(_shapes().items())}
    images = np.random.RandomState(7).standard_normal((2, 3, 32, 32)).astype(np.float32)
    config = configuration(model, position="learned")
    return encoded(config, parameters(tensors, 4)["encoder"], golden.channels_last(images))


def _shapes() -> dict[str, tuple[int, ...]]:
    block = {
        **{f"norm{i}.{leaf}": (32,) for i in (1, 2) for leaf in ("weight", "bias")},
        **{"attn.qkv.weight": (96, 32), "attn.qkv.bias": (96,), "attn.proj.weight": (32, 32), "attn.proj.bias": (32,)},
        **{"mlp.fc1.weight": (128, 32), "mlp.fc1.bias": (128,), "mlp.fc2.weight": (32, 128), "mlp.fc2.bias": (32,)},
    }
    return {
        **{"cls_token": (1, 1, 32), "pos_embed": (1, 17, 32)},
        **{"patch_embed.proj.weight": (32, 3, 8, 8), "patch_embed.proj.bias": (32,)},
        **{f"blocks.{index}.{name}": shape for index in range(3) for name, shape in block.items()},
        **{"norm.weight": (32,), "norm.bias": (32,), "head.weight": (5, 32), "head.bias": (5,)},
    }


def _drawn(name: str, shape: tuple[int, ...], generator: np.random.RandomState) -> np.ndarray:
    noise = generator.standard_normal(shape)
    if "norm" in name and name.endswith("weight"):
        return (1 + 0.1 * noise).astype(np.float32)
    return ((0.4 if "attn.qkv.weight" in name else 0.1) * noise).astype(np.float32)
