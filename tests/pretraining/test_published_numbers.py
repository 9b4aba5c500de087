"""Numbers that the original modules computed in float64, on parameters and images made of a sine."""

import jax
import numpy as np
import pytest

from mim_jax.models.classifier import Classifier
from mim_jax.models.swin import SwinConfig
from mim_jax.models.vit import VisionTransformer, VisionTransformerConfig
from mim_jax.ops.masks import spread_cells
from mim_jax.ops.positions import position_table
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.pretraining.simmim import SimMIM
from tests import swin_golden, vit_golden
from tests.models.test_swin_parity import encoder_shapes
from tests.models.test_vit_parity import BEIT, PER_BLOCK, SHARED
from tests.sine_fill import affine, sine, sine_images, sine_tensors, vit_blocks

TINY = {"image_size": (32, 32), "patch_size": (8, 8), "width": 24, "depth": 2, "num_heads": 3}
ENCODER = {"cls_token": (1, 1, 24)} | affine("patch_embed.proj", 24, 3, 8, 8) | vit_blocks("blocks", 2, 24)


def near(expected):
    return pytest.approx(np.asarray(expected), rel=2e-5, abs=2e-6)


def total(array):
    return float(np.asarray(array, np.float64).sum())


def fixed_positions(width):
    return {"table": np.float32(position_table("sincos", (4, 4), width, 1))}


@pytest.mark.parametrize("normalised, loss", [(False, 1.448919754), (True, 1.110160907)])
def test_mae(normalised, loss):
    shapes = ENCODER | affine("norm", 24) | {"mask_token": (1, 1, 16)} | affine("decoder_embed", 16, 24)
    shapes |= vit_blocks("decoder_blocks", 1, 16) | affine("decoder_norm", 16) | affine("decoder_pred", 192, 16)
    assert len(shapes) == 48
    tensors = {
        "decoder_mask_token" if name == "mask_token" else name: tensor for name, tensor in sine_tensors(shapes).items()
    }
    tree = vit_golden.parameters(tensors, 3, decoder_heads=2)
    tree["encoder"]["pos_embed"], tree["decoder"]["pos_embed"] = fixed_positions(24), fixed_positions(16)
    mae = MaskedAutoencoder(VisionTransformerConfig(**TINY), DecoderConfig(16, 1, 2), 0.75, normalised)
    batch = {"image": sine_images(2, 32), "noise": sine(3000, 2, 16).astype(np.float32)}
    out, found = jax.jit(lambda tree, batch: (mae.reconstruct(tree, batch), mae.loss(tree, batch)[0]))(tree, batch)
    assert ["".join(str(int(m)) for m in row) for row in out.mask.mask] == ["1111111111000110", "1111111010011011"]
    assert out.mask.restore[0].tolist() == [14, 7, 12, 6, 11, 15, 5, 9, 4, 8, 2, 3, 0, 13, 10, 1]
    assert out.prediction[0, 0, :4] == near([0.243139977, -0.301128151, 0.386074035, 0.184305710])
    assert out.latent[0, 0, :4] == near([0.434732058, 0.667569079, 0.756620862, -0.127992418])
    assert total(out.prediction) == pytest.approx(-142.92140664, rel=1e-5)
    assert total(out.latent) == pytest.approx(-4.15470994, rel=1e-4)
    assert float(found) == near(loss)


@pytest.mark.parametrize(
    "readout, norm, expected",
    [
        (
            "mean_then_norm",
            "fc_norm",
            [
                [0.080984465, 0.073066845, -0.378447902, 0.456076505, -0.421420246],
                [-0.378314840, -0.255133665, 0.156345595, 0.056950888, -0.475177358],
            ],
        ),
        (
            "class_token",
            "norm",
            [
                [-0.379935674, -1.051590891, -0.518640366, -0.165156611, -0.190637777],
                [-0.402622014, -1.196968915, -0.331727362, -0.249210522, -0.121178718],
            ],
        ),
    ],
)
def test_classifier_of_mae(readout, norm, expected):
    shapes = ENCODER | affine(norm, 24) | {"pos_embed": (1, 17, 24)} | affine("head", 5, 24)
    assert len(shapes) == 32
    tree = vit_golden.parameters(sine_tensors(shapes), 3)
    config = VisionTransformerConfig(**TINY, position="learned", final_norm=norm == "norm")
    classifier = Classifier(VisionTransformer(config), 5, readout)
    logits, _ = jax.jit(classifier.apply)({"params": tree}, sine_images(2, 32))
    assert logits == near(expected)


def beit_shapes(prefix, table):
    """MAE's encoder with the parameters that BEiT and SimMIM have in the place of others."""
    shapes = {name: shape for name, shape in ENCODER.items() if not name.endswith("attn.qkv.bias")}
    for block in (f"blocks.{i}" for i in range(2)):
        shapes |= {f"{block}.{name}": (24,) for name in ("attn.q_bias", "attn.v_bias", "gamma_1", "gamma_2")}
        if table == "per_block":
            shapes[f"{block}.attn.relative_position_bias_table"] = (52, 3)
    if table == "shared":
        shapes["rel_pos_bias.relative_position_bias_table"] = (52, 3)
    return {prefix + name: shape for name, shape in shapes.items()}


def test_simmim_on_a_vit():
    shapes = beit_shapes("encoder.", "shared") | affine("encoder.norm", 24) | {"encoder.mask_token": (1, 1, 24)}
    shapes |= affine("decoder.0", 192, 24, 1, 1)
    assert len(shapes) == 39
    tensors = {name.removeprefix("encoder."): tensor for name, tensor in sine_tensors(shapes).items()}
    tree = vit_golden.parameters(tensors, 3)
    config = VisionTransformerConfig(**TINY, **(BEIT | SHARED | {"mask_token": True}))
    cells = (sine(3000, 2, 4) < 0.6).astype(np.float32)
    assert cells.sum(axis=1).tolist() == [3, 3]
    out, loss = reconstruct(SimMIM(config, mask_patch=16), tree, 32, cells, (2, 2), (2, 2))
    assert out.tokens[0, :4, 0] == near([-0.064765607, -0.541786776, -0.185132962, -0.177018682])
    assert out.prediction[0, 0, :4, 0] == near([0.524783499, -0.502900556, -0.167637028, 0.584840263])
    assert total(out.tokens) == pytest.approx(25.17645431, rel=1e-5)
    assert total(out.prediction) == pytest.approx(-142.76742304, rel=1e-5)
    assert float(loss) == near(1.054917419)


def test_classifier_of_simmim_on_a_vit():
    shapes = beit_shapes("", "per_block") | affine("fc_norm", 24) | affine("head", 5, 24)
    assert len(shapes) == 39
    tree = vit_golden.parameters(sine_tensors(shapes), 3)
    config = VisionTransformerConfig(**TINY, **(BEIT | PER_BLOCK | {"final_norm": False}))
    logits, _ = jax.jit(Classifier(VisionTransformer(config), 5).apply)({"params": tree}, sine_images(2, 32))
    expected = [
        [-0.508362578, -0.062896297, 0.478910250, -0.273052846, -0.783669766],
        [0.238367068, 0.392529559, -0.126824592, -0.159787456, 0.290268937],
    ]
    assert logits == near(expected)


def test_simmim_on_a_swin():
    shapes = {f"encoder.{name}": shape for name, shape in encoder_shapes().items()}
    shapes |= {"encoder.mask_token": (1, 1, 8)} | affine("decoder.0", 192, 16, 1, 1)
    tree = swin_golden.from_tensors(sine_tensors(shapes), [2, 4])
    tree["decoder"] = {key: leaf.reshape(*leaf.shape[:-1], 3, 8, 8) for key, leaf in tree["decoder"].items()}
    config = SwinConfig(image_size=(48, 48), width=8, depths=(2, 2), num_heads=(2, 4), window=3, mask_token=True)
    cells = (sine(3000, 2, 36) < 0.6).astype(np.float32)
    assert cells.sum(axis=1).tolist() == [25, 18]
    out, loss = reconstruct(SimMIM(config, mask_patch=8), tree, 48, cells, (6, 6), (2, 2))
    assert out.tokens[0, :4, 0] == near([1.287657453, -1.290583885, -1.272069925, -1.319981254])
    assert out.prediction[0, 0, :4, 0] == near([-0.172061162, 0.017850316, -0.025336008, -0.376599597])
    assert total(out.prediction) == pytest.approx(143.04537104, rel=1e-5)
    assert float(loss) == near(1.022298096)


def reconstruct(objective, tree, side, cells, grid, cell):
    batch = {"image": sine_images(2, side), "mask": np.asarray(spread_cells(jax.numpy.asarray(cells), grid, cell))}
    run = jax.jit(lambda tree, batch: (objective.reconstruct(tree, batch), objective.loss(tree, batch)[0]))
    return run(tree, batch)
