"""Under the bfloat16 policy every parameter's gradient is float32's, within two per cent."""

import functools

import jax
import pytest

from mim_jax.models.blocks import Computation
from mim_jax.models.swin_config import SwinConfig
from mim_jax.models.vit_config import VisionTransformerConfig
from mim_jax.pretraining.heads import HeadConfig
from mim_jax.pretraining.lut import Lut
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.pretraining.simmim import SimMIM
from mim_jax.pretraining.supervised import Supervised
from tests.gradients import LARGEST_ERROR, compare, pictures

CLASSES = 10
IMAGES = {"SimMIM on a ViT": 128}
"""Images in a batch if not 64; a row of a position table is summed over images and nothing else."""

EVERYTHING = dict(
    position="learned", position_prefix=2, registers=2, distillation_token=True, layer_scale=0.1,
    qkv_bias="query_value", query_key_norm=True, mlp="swiglu", kernel_init="normal",
)  # fmt: skip
PER_BLOCK = dict(position="learned", relative_position_bias="per_block", layer_scale=0.1, mask_token=True)


def vit(**options):
    return VisionTransformerConfig((32, 32), (4, 4), 3, **(dict(width=64, depth=2, num_heads=4) | options))


def swin(version):
    options = {} if version == 1 else {"branch_norm_scale": 1.0}
    return SwinConfig(
        version, (32, 32), (2, 2), width=48, depths=(2, 2), num_heads=(3, 6), window=4, position="learned",
        mask_token=True, **options,
    )  # fmt: skip


def mae(computation, **options):
    return MaskedAutoencoder(vit(**options), DecoderConfig(48, 1, 3), normalise_target=True, computation=computation)


def lut(computation, **options):
    head = HeadConfig(hidden=96, **options)
    return Lut(mae(computation), head, head)


OBJECTIVES = {
    "MAE": mae,
    "MAE with every token, factor and table": lambda computation: mae(computation, **EVERYTHING),
    "SimMIM on a ViT": lambda computation: SimMIM(vit(**PER_BLOCK), mask_patch=8, computation=computation),
    "SimMIM on Swin": lambda computation: SimMIM(swin(1), mask_patch=8, computation=computation),
    "SimMIM on Swin V2": lambda computation: SimMIM(swin(2), mask_patch=8, computation=computation),
    "LUT": lut,
    "LUT with layer norms": lambda computation: lut(computation, norm="layer", activation="gelu"),
    "supervised": lambda computation: Supervised(vit(), CLASSES, computation=computation),
    "supervised with two tokens": lambda computation: Supervised(
        vit(**EVERYTHING), CLASSES, "distilled", computation=computation
    ),
}

SENSITIVE = {"SimMIM on Swin", "SimMIM on Swin V2", "LUT"}
"""Whose gradients are uncertain by more than two per cent in bfloat16, however they are summed.

Vectors of a batch that differ by little are standardised and meet a ReLU (LUT), and masked tokens are tiny before they
are brought to length one (Swin V2) or hardly differ within a window (Swin): float32's own gradient moves by as much
where nothing but its parameters is rounded to bfloat16, once.
"""

LONG = ("MAE", "LUT with layer norms", "supervised")
"""Of which another objective has all parts."""

UNSEEN = {"k_norm/bias": "q_norm/bias"}
"""What a softmax does not see, for it moves all logits of a query alike, and a parameter like it that is seen."""


def batch_of(name):
    images, views = IMAGES.get(name, 64), (2,) if name.startswith("LUT") else ()
    labels = jax.random.randint(jax.random.key(3), (images,), 0, CLASSES)
    return {"image": pictures(jax.random.key(1), images, *views), "label": labels}


@functools.cache
def compared(name):
    """Both gradients of an objective at its initialisation and after some steps."""
    plain = OBJECTIVES[name](Computation())
    parameters = jax.jit(plain.init)(jax.random.key(0))
    batch, memory = plain.draw(batch_of(name), jax.random.key(2)), plain.init_memory(parameters)
    gradient = lambda computation: jax.jit(
        lambda tree: jax.grad(OBJECTIVES[name](computation).loss, has_aux=True)(tree, batch, None, memory)[0]
    )
    return compare(gradient(Computation()), gradient(Computation("bfloat16")), parameters)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["at initialisation", "after some steps"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.long] * (n in LONG)) for n in OBJECTIVES])
def test_gradients_in_bfloat16_are_those_in_float32(name, place):
    found = compared(name)[place == "after some steps"]
    assert found.wrong(sensitive=name in SENSITIVE, unseen=UNSEEN) == {}
    for unseen, seen in UNSEEN.items():
        for parameter in [parameter for parameter in found.exact if parameter.endswith(unseen)]:
            scale = found.exact[parameter.replace(unseen, seen)]
            assert found.exact[parameter] < 1e-5 * scale and found.rounded[parameter] < LARGEST_ERROR * scale
