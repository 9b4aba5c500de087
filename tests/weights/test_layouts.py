"""The tables of names themselves, and what is told apart by them."""

import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.models.presets import ENCODERS, encoder_config, nearest_preset
from mim_jax.weights.arrangement import arrange, arrange_back, shape_there
from mim_jax.weights.evidence import Evidence, ratio
from mim_jax.weights.files.inert import Opaque
from mim_jax.weights.layouts import LAYOUTS
from mim_jax.weights.loading import load
from mim_jax.weights.rules import fill, parse_rules, read_numbers
from mim_jax.weights.stated.training import read_training
from mim_jax.weights.vit_architecture import vision_transformer_fields
from tests import golden_cases as golden


def test_rule_of_a_module_stands_for_its_arrays():
    weight, bias = parse_rules("blocks.{i}.mlp.fc1  encoder/blocks/{i}/mlp/fc1  dense")
    assert weight.sources == ("blocks.{i}.mlp.fc1.weight",) and weight.target == "encoder/blocks/{i}/mlp/fc1/kernel"
    assert bias.pattern == "o -> o"


def test_parts_become_one_array():
    weight, _ = parse_rules("a.{query,key,value}  b/qkv  qkv_parts")
    assert weight.sources == ("a.query.weight", "a.key.weight", "a.value.weight")


def test_unknown_kind_of_rule_is_an_error():
    with pytest.raises(ValueError, match="'dens' is no kind of rule"):
        parse_rules("a b dens")


def test_numbers_are_read_and_filled_in_with_their_offset():
    assert read_numbers("layers.{s+1}.x.{i}", "layers.3.x.0") == {"s": 2, "i": 0}
    assert read_numbers("layers.{s+1}.x", "layers.0.x") is None
    assert fill("layers.{s+1}.x.{i}", {"s": 2, "i": 0}) == "layers.3.x.0"


@pytest.mark.parametrize(
    "pattern, shape, there, parts",
    [
        ("(t k e) d -> d t k e", (8, 3, 2, 4), (24, 8), 1),
        ("t (k e) d -> d t k e", (8, 3, 2, 4), (8, 8), 3),
        ("o (k e) -> k e o", (2, 4, 8), (8, 8), 1),
        ("1 1 d -> d", (5,), (1, 1, 5), 1),
        ("(c h w) d 1 1 -> d c h w", (6, 3, 2, 2), (12, 6, 1, 1), 1),
    ],
)
def test_arrangements_turn_back_exactly(pattern, shape, there, parts):
    array = np.arange(np.prod(shape)).reshape(shape)
    back = arrange_back(array, pattern, parts)
    assert shape_there(pattern, shape, parts) == there and all(part.shape == there for part in back)
    np.testing.assert_array_equal(arrange(back, pattern, shape), array)


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_two_rules_of_a_layout_read_the_same_name_into_the_same_array(name):
    pairs = [(source, rule.target) for rule in LAYOUTS[name].rules for source in rule.sources]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize("name", ENCODERS)
def test_every_preset_is_its_own_nearest(name):
    config = encoder_config(name)
    assert encoder_config(nearest_preset(config)) == config


def test_hidden_width_comes_back_from_its_ratio():
    for width in (24, 384, 1408, 1536):
        for hidden in (width, 4 * width, 64, 6144, 4096, 2731):
            assert int(width * ratio(hidden, width)) == hidden


def evidence(arrays, given):
    return Evidence(arrays, {}, given, lambda path: np.ones((1, 5, 192)))


VIT = {
    "encoder/patch_embed/kernel": (192, 3, 4, 4),
    "encoder/pos_embed/table": (1, 5, 192),
    "encoder/cls_token": (1, 1, 192),
    "encoder/blocks/0/attn/qkv/bias": (576,),
    "encoder/blocks/0/mlp/fc1/kernel": (768, 192),
}


def test_what_is_stated_wins_over_convention_and_is_not_told_as_assumed():
    seen = evidence(VIT, {"num_heads": 12, "image_size": (8, 8)})
    assert vision_transformer_fields(seen)["num_heads"] == 12 and not seen.assumed
    seen = evidence(VIT, {})
    assert vision_transformer_fields(seen)["num_heads"] == 3 and "num_heads=3" in seen.assumed[0]


def test_rectangular_grid_can_be_stated():
    arrays = VIT | {"encoder/pos_embed/table": (1, 7, 192)}
    fields = vision_transformer_fields(evidence(arrays, {"image_size": (8, 12), "num_heads": 3}))
    assert fields["position_prefix"] == 1 and fields["position"] == "learned"


def test_arguments_of_the_training_tell_heads_and_target():
    arguments = {"model": "mae_vit_base_patch16", "norm_pix_loss": True, "mask_ratio": 0.6}
    content = {"model": {}, "args": Opaque("argparse.Namespace", state=arguments)}
    arrays = {"encoder/patch_embed/kernel": (768, 3, 16, 16), "decoder/embed/kernel": (512, 768)}
    told = read_training(content, arrays).values
    assert told == {"normalise_target": True, "mask_ratio": 0.6, "num_heads": 12, "decoder.num_heads": 16}
    assert "num_heads" not in read_training(content, {"encoder/patch_embed/kernel": (384, 3, 16, 16)}).values


def test_linear_probe_keeps_the_statistics_of_its_batch_norm(tmp_path):
    weights = golden.checkpoint("mae_finetune_cls")
    width = weights["norm.weight"].size
    rng = np.random.default_rng(0)
    weights["head.0.running_mean"] = rng.normal(size=width).astype(np.float32)
    weights["head.0.running_var"] = rng.uniform(0.5, 2, size=width).astype(np.float32)
    weights["head.0.num_batches_tracked"] = np.array(7)
    for name in ("weight", "bias"):
        weights[f"head.1.{name}"] = weights.pop(f"head.{name}")
    np.savez(tmp_path / "probe.npz", **weights)
    heads = golden.case("mae_finetune_cls")["model"]["num_heads"]
    model = load(tmp_path / "probe.npz", stated={"num_heads": heads})
    images = golden.channels_last(golden.arrays("mae_finetune_cls")["images"])
    features = np.asarray(model.encode(images).tokens[:, 0])
    features = (features - weights["head.0.running_mean"]) / np.sqrt(weights["head.0.running_var"] + 1e-6)
    expected = features @ weights["head.1.weight"].T + weights["head.1.bias"]
    np.testing.assert_allclose(model.logits(images), expected, rtol=1e-4, atol=1e-5)
    assert model.origin["layout"] == "linear_probe"


def test_window_of_every_stage_is_asked_for_under_its_name():
    with pytest.raises(InputError, match="--set windows=12,12,12,6"):
        load(golden.FOLDER / "swinv2_classifier" / "checkpoint.pth", stated={"window": (4, 4, 4, 4)})
