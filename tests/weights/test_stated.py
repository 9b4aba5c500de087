"""What a user and configurations state: believed, checked against the arrays, or refused by name."""

import dataclasses
import json

import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.models.build import FAMILIES
from mim_jax.weights.files.safetensors_writing import write_safetensors
from mim_jax.weights.loading import load
from mim_jax.weights.model_directory import save_model
from mim_jax.weights.stated.values import KINDS
from tests.weights import small
from tests.weights.writing import write_arrays

HALF = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]}


def folder(path, arrays, config=None, preprocessor=None, name="model.safetensors"):
    """Arrays with configurations beside them."""
    if name.endswith(".pth"):
        write_arrays(path / name, arrays)
    else:
        write_safetensors(path / name, {key: (value.dtype, value.shape, value) for key, value in arrays.items()})
    for file, content in (("config.json", config), ("preprocessor_config.json", preprocessor)):
        if content is not None:
            (path / file).write_text(json.dumps(content))
    return path


def refused(path, **options) -> str:
    with pytest.raises(InputError) as raised:
        load(path, **options)
    message = str(raised.value)
    assert "\n" not in message and "damaged" not in message
    return message


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field_of_an_encoder_has_a_kind(family):
    fields = {field.name: field.default for field in dataclasses.fields(FAMILIES[family][0])}
    assert fields.keys() <= KINDS[family].keys()
    for key, default in fields.items():
        read = KINDS[family][key].read(default)
        assert read == default or read == (default, default), key


HUGGING_FACE = {"num_attention_heads": 2, "hidden_size": 8, "image_size": 4, "patch_size": 2}


@pytest.mark.parametrize(
    ("told", "field", "value"),
    [
        ({}, "norm_epsilon", 1e-12), ({"layer_norm_eps": 1e-5}, "norm_epsilon", 1e-5), ({}, "activation", "gelu"),
        ({"hidden_act": "quick_gelu"}, "activation", "quick_gelu"),
        ({"hidden_act": "gelu_pytorch_tanh"}, "activation", "gelu_tanh"),
        ({"image_size": [4, 4]}, "image_size", (4, 4)),
        ({"image_size": {"height": 4, "width": 4}}, "image_size", (4, 4)), ({"num_channels": 3}, "channels", 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "any.pth"])
def test_a_configuration_of_hugging_face_is_believed(tmp_path, told, field, value, name):
    if name.endswith("n"):
        name = "any.pth"
    path = folder(tmp_path, small.hugging_face(), HUGGING_FACE | told, name=name)
    model = load(path / name if name == "any.pth" else path)
    assert getattr(model.encoder_config, field) == value


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"hidden_act": "relu"}, "hidden_act"), ({"num_channels": 1}, "num_channels"),
        ({"qkv_bias": False}, "qkv_bias"), ({"image_size": 8}, "image_size"),
        ({"hidden_size": 16}, "hidden_size"), ({"model_type": "dinov3_vit"}, "rotary"),
        ({"num_hidden_layers": 2}, "num_hidden_layers"), ({"intermediate_size": 8}, "intermediate_size"),
        ({"patch_size": 4}, "patch_size"), ({"num_attention_heads": "two"}, "num_attention_heads"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_arrays_or_is_not_supported_is_named(tmp_path, told, said):
    assert said in refused(folder(tmp_path, small.hugging_face(), HUGGING_FACE | told))


@pytest.mark.parametrize(
    ("told", "mean", "std"),
    [
        (HALF, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)), (HALF | {"do_normalize": False}, (0, 0, 0), (1, 1, 1)),
        ({"image_mean": 0.4, "image_std": [0.2]}, (0.4,) * 3, (0.2,) * 3),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}, (0.5,) * 3, (0.5,) * 3),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3}, (0.5,) * 3, (0.2,) * 3),
    ],
)  # fmt: skip
def test_how_pixels_are_normalised_is_believed(tmp_path, told, mean, std):
    given = load(folder(tmp_path, small.hugging_face(), HUGGING_FACE, told)).preprocessing
    np.testing.assert_allclose(given.mean, mean, atol=1e-7)
    np.testing.assert_allclose(given.std, std, atol=1e-7)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"image_mean": [0.5, 0.5]}, "image_mean"), ({"image_mean": [127.5] * 3}, "image_mean"),
        ({"image_std": [0, 1, 1]}, "image_std"), ({"rescale_factor": 0}, "rescale_factor"),
        ({"do_normalize": "yes"}, "do_normalize"), ({"image_mean": ["a"]}, "image_mean"),
    ],
)  # fmt: skip
def test_what_cannot_normalise_is_named(tmp_path, told, said):
    assert said in refused(folder(tmp_path, small.hugging_face(), HUGGING_FACE, told))


TIMM = {
    "architecture": "vit_tiny_patch2_4",
    "pretrained_cfg": {"input_size": [3, 4, 4]},
    "model_args": {"num_heads": 2},
}


@pytest.mark.parametrize(
    ("told", "field", "value"),
    [
        ({}, "num_heads", 2), ({"model_args": {"num_heads": 4}}, "num_heads", 4), ({}, "norm_epsilon", 1e-6),
        ({"architecture": "test_vit", "model_args": {}}, "num_heads", 2),
        ({"architecture": "vit_base_patch16_clip_quickgelu_224"}, "activation", "quick_gelu"),
        ({"architecture": "vit_base_patch16_clip_224.openai"}, "norm_epsilon", 1e-5),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["model.safetensors", "any.pth"])
def test_a_configuration_of_timm_is_believed(tmp_path, told, field, value, name):
    path = folder(tmp_path, small.vit(), TIMM | told, name=name)
    assert getattr(load(path / name).encoder_config, field) == value


def test_mean_and_deviation_of_timm_are_believed(tmp_path):
    told = {"input_size": [3, 4, 4], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}
    given = load(folder(tmp_path, small.vit(), TIMM | {"pretrained_cfg": told})).preprocessing
    assert given.mean == (0.5, 0.4, 0.3) and given.std == (0.2, 0.2, 0.1)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"architecture": "vit_base_patch16_rope_224"}, "rotary"), ({"model_args": {"num_heads": 0}}, "num_heads"),
        ({"architecture": "eva02_base_patch14_224"}, "rotary"), ({"architecture": 3}, "architecture"),
        ({"model_args": {"num_heads": 2, "act_layer": "silu"}}, "act_layer"),
        ({"model_args": {"num_heads": 2, "pre_norm": True}}, "pre_norm"), ({"model_args": [1]}, "model_args"),
        ({"pretrained_cfg": {"mean": [0.5]*2}}, "mean"), ({"pretrained_cfg": {"input_size": [1, 4, 4]}}, "input_size"),
    ],
)  # fmt: skip
def test_what_timm_states_and_cannot_be_kept_is_named(tmp_path, told, said):
    assert said in refused(folder(tmp_path, small.vit(), TIMM | told))


def test_the_user_has_the_last_word(tmp_path):
    path = folder(tmp_path, small.hugging_face(), HUGGING_FACE | {"hidden_act": "relu", "layer_norm_eps": 1e-3})
    model = load(path, stated={"activation": "gelu_tanh", "norm_epsilon": 1e-7, "mean": 0.25})
    assert model.encoder_config.activation == "gelu_tanh" and model.encoder_config.norm_epsilon == 1e-7
    assert model.preprocessing.mean == (0.25,) * 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_heads", 0), ("num_heads", True), ("num_heads", 3), ("image_size", ()), ("image_size", (1,)),
        ("image_size", (8, 8)), ("patch_size", (1, 2, 3)), ("width", 0), ("width", 16), ("depth", 2),
        ("mean", (0.5, 0.5)),
        ("mean", 123.7), ("std", -1), ("std", 0.0), ("norm_epsilon", float("nan")), ("norm_epsilon", 10**400),
        ("position", "none"), ("activation", "relu"), ("qkv_bias", "none"), ("kernel_init", 1), ("class_token", False),
        ("layer_scale", 0.1), ("readout", "last"), ("drop_path_rate", 1), ("registers", -1), ("mask_patch", 1 << 40),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(tmp_path, key, value):
    path = write_arrays(tmp_path / "vit.pth", small.vit())
    assert key in refused(path, stated=small.STATED["vit"] | {key: value}).split(" (stated:")[0].replace("width 8", key)


def test_three_means_are_not_those_of_one_channel(tmp_path):
    arrays = small.vit() | {"patch_embed.proj.weight": small.Draw(1)(small.WIDTH, 1, 2, 2)}
    path = write_arrays(tmp_path / "grey.pth", arrays)
    stated = small.STATED["vit"] | {"channels": 1}
    assert "mean has 3 number(s)" in refused(path, stated=stated | {"mean": (0.5, 0.5, 0.5)})
    assert load(path, stated=stated | {"mean": 0.4, "std": (0.2,)}).preprocessing.mean == (0.4,)


def test_what_is_assumed_is_told_and_kept(tmp_path):
    model = load(write_arrays(tmp_path / "vit.pth", small.vit()), stated=small.STATED["vit"])
    save_model(model, tmp_path / "kept")
    kept = " ".join(load(tmp_path / "kept").notes)
    for told in ("norm_epsilon=1e-06", "activation=gelu", "mean=0.485", "image_size=4,4"):
        assert any(told in note for note in model.notes) and told in kept


def table(rows):
    return small.vit() | {"pos_embed": small.Draw(2)(1, rows, small.WIDTH)}


@pytest.mark.parametrize("rows", [7, 13, 3])  # with a class token these are 2x3, 3x4 or 2x6, and 1x2 patches
def test_positions_of_no_square_are_asked_for(tmp_path, rows):
    path = write_arrays(tmp_path / "vit.pth", table(rows))
    assert "--set image_size" in refused(path, stated=small.STATED["vit"])


def test_a_rectangle_that_is_stated_has_its_grid(tmp_path):
    path = write_arrays(tmp_path / "vit.pth", table(7))
    model = load(path, stated=small.STATED["vit"] | {"image_size": (4, 6)})
    assert model.encoder_config.grid == (2, 3) and model.encode(small.pixels(4, 6)).tokens.shape == (2, 7, 8)
    assert "image_size" in refused(path, stated=small.STATED["vit"] | {"image_size": (4, 8)})
