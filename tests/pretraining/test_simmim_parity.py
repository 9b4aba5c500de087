"""SimMIM against the original PyTorch code, on every backbone."""

import jax
import numpy as np
import pytest

from mim_jax.models.blocks import Computation
from mim_jax.models.stacking import stack_blocks, unstack_blocks
from mim_jax.models.vit import VisionTransformerConfig
from mim_jax.ops.local_normalization import normalise_locally
from mim_jax.pretraining.simmim import SimMIM
from tests import golden_cases as golden
from tests import swin_golden, vit_golden
from tests.models.test_vit_parity import BEIT, SHARED, config_of

TOLERANCE = 1e-5

VIT = BEIT | SHARED | {"mask_token": True}


def vit_case(name, fields, layout):
    config = config_of(golden.case(name), **fields)
    tensors = golden.checkpoint(name)
    tensors = {key.removeprefix("encoder.") if layout == "timm" else key: value for key, value in tensors.items()}
    return config, vit_golden.parameters(tensors, config.num_heads, layout=layout)


def swin_case(name, version, layout):
    tree = swin_golden.parameters(name, layout)
    side = round((tree["decoder"]["bias"].size / 3) ** 0.5)
    tree["decoder"] = {key: leaf.reshape(*leaf.shape[:-1], 3, side, side) for key, leaf in tree["decoder"].items()}
    return swin_golden.config(name, version, mask_token=True), tree


CASES = {
    "simmim_vit_pretrain": lambda name: vit_case(name, VIT, "timm"),
    "hf_vit_masked_image_modeling": lambda name: vit_case(name, {"mask_token": True}, "hugging_face"),
    "simmim_swin_pretrain": lambda name: swin_case(name, 1, "original"),
    "simmim_swinv2_pretrain": lambda name: swin_case(name, 2, "original"),
    "hf_swin_masked_image_modeling": lambda name: swin_case(name, 1, "hugging_face"),
    "hf_swin_masked_image_modeling_v5names": lambda name: swin_case(name, 1, "hugging_face"),
    "hf_swinv2_masked_image_modeling": lambda name: swin_case(name, 2, "hugging_face"),
}


def our_gradient(name, array, config):
    """Path and value in our tree of a recorded gradient."""
    if isinstance(config, VisionTransformerConfig):
        tree = vit_golden.parameters({name.removeprefix("encoder."): array}, config.num_heads)
    else:
        tree = swin_golden.from_tensors({name: array}, config.num_heads)
    ((path, value),) = jax.tree_util.tree_leaves_with_path(tree)
    return [key.key for key in path], value


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_reconstruction_loss_and_gradients_equal_the_original(name, scan):
    config, tree = CASES[name](name)
    case, arrays = golden.case(name), golden.arrays(name)
    objective = SimMIM(
        config,
        mask_patch=config.patch_size[0],
        target_window=case.get("norm_target_patch_size", 0),
        computation=Computation(scan_blocks=scan),
    )
    batch = {
        "image": golden.channels_last(arrays["images"]),
        "mask": arrays["mask"].reshape(arrays["mask"].shape[0], -1).astype(np.float32),
    }

    def run(tree, batch):
        loss, gradients = jax.value_and_grad(lambda tree: objective.loss(tree, batch)[0])(tree)
        return objective.reconstruct(tree, batch), loss, gradients

    out, loss, gradients = jax.jit(run)(stack_blocks(tree) if scan else tree, batch)
    if "encoder_features" in arrays:
        features = np.moveaxis(arrays["encoder_features"].reshape(*arrays["encoder_features"].shape[:2], -1), 1, 2)
        assert golden.relative_error(out.tokens, features) < TOLERANCE
    assert golden.relative_error(np.moveaxis(out.prediction, 3, 1), arrays["reconstruction"]) < TOLERANCE
    assert golden.relative_error(loss, arrays["loss"]) < TOLERANCE
    gradients = unstack_blocks(gradients)
    for key in [key for key in arrays if key.startswith("grad/")]:
        path, theirs = our_gradient(key.removeprefix("grad/"), arrays[key], config)
        ours = gradients
        for part in path:
            ours = ours[part]
        assert golden.relative_error(np.reshape(ours, theirs.shape), theirs) < TOLERANCE, key


def test_locally_normalised_target_equals_the_original():
    arrays = golden.arrays("simmim_swinv2_pretrain")
    ours = jax.jit(normalise_locally, static_argnums=1)(golden.channels_last(arrays["images"]), 47)
    assert golden.relative_error(np.moveaxis(ours, 3, 1), arrays["normalised_target"]) < TOLERANCE
