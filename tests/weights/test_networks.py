"""Names as training frameworks leave them: wrappers, prefixes, averages, several networks in one file."""

import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.weights.importing import Options, understand
from mim_jax.weights.loading import load
from tests.weights import small
from tests.weights.small import prefixed
from tests.weights.writing import write_arrays

STATED = small.STATED["vit"]


def read(tmp_path, content, **options):
    """The model in a file with this content."""
    return load(write_arrays(tmp_path / "model.pth", content), **{"stated": STATED} | options)


def refused(tmp_path, content, **options) -> str:
    with pytest.raises(InputError) as raised:
        read(tmp_path, content, **options)
    message = str(raised.value)
    assert "\n" not in message and "damaged" not in message and len(message) < 500
    return message


def holds(model, arrays) -> bool:
    """Whether the encoder's arrays are these, by those that lie here as there."""
    encoder = model.parameters["encoder"]
    same = [
        (encoder["patch_embed"]["bias"], arrays["patch_embed.proj.bias"]),
        (encoder["blocks"]["0"]["mlp"]["fc1"]["kernel"], arrays["blocks.0.mlp.fc1.weight"].T),
        (encoder["norm"]["scale"], arrays["norm.weight"]),
    ]
    return all(np.array_equal(ours, theirs) for ours, theirs in same)


def inside(part, arrays, at=2):
    """A part put into the name of everything in a block."""
    put = lambda parts: [*parts[:at], part, *parts[at:]] if parts[0] == "blocks" else parts
    return {".".join(put(name.split("."))): value for name, value in arrays.items()}


@pytest.mark.parametrize(
    "part",
    ["_orig_mod", "module", "_module", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module",
     "_fsdp_wrapped_module._fpw_module", "_orig_mod._checkpoint_wrapped_module"],
)  # fmt: skip
def test_wrappers_are_taken_out_wherever_they_stand(tmp_path, part):
    arrays = small.vit()
    for names in (prefixed(f"{part}.", arrays), inside(part, arrays), prefixed(f"{part}.", inside(part, arrays, 3))):
        assert holds(read(tmp_path, {"model": names}), arrays)


@pytest.mark.parametrize(
    "prefix",
    ["", "net.", "encoder.", "backbone.vit.", "net.visual.trunk.", "student_model.wrapped._model.", "module.0.x."],
)  # fmt: skip
def test_a_common_prefix_is_taken_off(tmp_path, prefix):
    arrays = small.vit()
    head = {"projection_head.layers.0.weight": np.ones((2, 2), np.float32)} if prefix else {}
    model = read(tmp_path, {"state_dict": prefixed(prefix, arrays) | head, "epoch": {}})
    assert holds(model, arrays)
    assert not prefix or any("1 arrays of 'projection_head'" in note for note in model.notes)


@pytest.mark.parametrize("prefix", ["", "net.", "model.backbone."])
def test_a_prefix_of_the_layout_itself_keeps_what_stands_in_front_of_it(tmp_path, prefix):
    arrays = small.hugging_face()
    model = read(tmp_path, prefixed(prefix, arrays))
    np.testing.assert_array_equal(model.parameters["head"]["bias"], arrays["classifier.bias"])


def test_two_names_of_one_array_are_refused(tmp_path):
    arrays = small.vit()
    twice = arrays | {"module.norm.bias": arrays["norm.bias"] + 1}
    assert "'norm.bias' and 'module.norm.bias'" in refused(tmp_path, twice)


@pytest.mark.parametrize("name", ["n_averaged", "num_updates", "ema.decay"])
def test_counters_of_averages_are_left_out_and_told(tmp_path, name):
    arrays = small.vit()
    model = read(tmp_path, {name: np.array(4)} | prefixed("module.", arrays))
    assert holds(model, arrays) and any(f"as counters: {name}" in note for note in model.notes)


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        ("teacher.backbone.", "student.backbone."), ("backbone.", "momentum_backbone."), ("", "ema."),
        ("base_encoder.", "momentum_encoder."), ("encoder_q.", "encoder_k."), ("target_encoder.", "encoder."),
        ("online_encoder.", "target_encoder."), ("teacher_backbone.", "student_backbone."), ("model.", "model_ema."),
    ],
)  # fmt: skip
def test_of_two_networks_the_authors_one_is_taken_and_the_other_can_be_selected(tmp_path, taken, left):
    one, other = small.vit(1), small.vit(2)
    content = {"state_dict": prefixed(left, other) | prefixed(taken, one)}
    model, select = read(tmp_path, content), left.strip(".")
    assert holds(model, one) and any("see --select" in note for note in model.notes)
    for way in (select, select.replace(".", "/"), "state_dict/" + select.replace(".", "/")):
        assert holds(read(tmp_path, content, select=way), other)


def test_dictionaries_are_told_apart_like_prefixes(tmp_path):
    one, other = small.vit(1), small.vit(2)
    content = {"params_ema": other, "params": one}
    assert holds(read(tmp_path, content), one)
    assert holds(read(tmp_path, content, select="params_ema"), other)


def test_where_no_convention_decides_it_is_asked(tmp_path):
    content = prefixed("a.", small.vit(1)) | prefixed("b.net.", small.vit(2))
    assert "several networks, 'a', 'b/net'; say which is meant with --select" in refused(tmp_path, content)
    assert holds(read(tmp_path, content, select="net"), small.vit(2))
    assert "there is no 'c' in it; it has 'a', 'b/net'" in refused(tmp_path, content, select="c")
    plain = small.vit(1) | prefixed("b.", small.vit(2))
    assert "'/', 'b'" in refused(tmp_path, plain)
    assert holds(read(tmp_path, plain, select="/"), small.vit(1))


def test_one_network_under_two_names_is_one(tmp_path):
    arrays = small.vit()
    file = tmp_path / "model.npz"
    np.savez(file, **arrays)
    stored = understand(file, Options(stated=STATED)).file.content
    from mim_jax.weights.networks import choose, find_networks

    found = find_networks({"a": stored, "b": stored})
    assert len(found) == 2 and choose(found).name == "a"


def test_a_part_of_the_encoder_outside_of_it_is_not_left_out_silently(tmp_path):
    arrays = small.vit()
    content = {name if name in ("pos_embed", "cls_token") else f"encoder.{name}": x for name, x in arrays.items()}
    assert "cls_token, pos_embed lies outside 'encoder'" in refused(tmp_path, content)


def test_messages_have_the_names_of_the_file(tmp_path):
    arrays = prefixed("module.net.", small.vit())
    name = "module.net.blocks.0.mlp.fc2.weight"
    assert f"{name} has shape [7, 16], but [8, 16]" in refused(tmp_path, arrays | {name: arrays[name][:-1]})
    assert f"{name} has 1 axis" in refused(tmp_path, arrays | {name: arrays[name].ravel()})
    assert "module.net.rotary" in refused(tmp_path, arrays | {"module.net.rotary": arrays[name]})


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("pos_embed", (0,), "pos_embed has 1 axis"), ("pos_embed", (0, 5, 8), "pos_embed is empty"),
        ("norm.weight", (), "norm.weight has 0 axes"), ("cls_token", (1, 8, 8), "8 class tokens, and one is supported"),
        ("patch_embed.proj.weight", (8, 3, 1, 2, 2), "5 axes (shape [8, 3, 1, 2, 2]), for images over time"),
        ("pos_embed", (2, 5, 8), "pos_embed has shape [2, 5, 8], but [1, 5, 8]"),
    ],
)  # fmt: skip
def test_arrays_of_odd_shapes_are_named(tmp_path, name, shape, said):
    for stated in ({}, {"image_size": (4, 4), "channels": 3}):
        assert said in refused(tmp_path, small.vit() | {name: np.ones(shape, np.float32)}, stated=STATED | stated)


def test_arrays_without_numbers_are_a_shard(tmp_path):
    empty = {name: np.zeros(0, np.float32) for name in small.vit()}
    assert "ZeRO-3" in refused(tmp_path, {"module": empty, "buffers": {}})


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["_fsdp_wrapped_module._flat_param", "a._fsdp_wrapped_module._flat_param"], "flat arrays of FSDP"),
        (["visual.transformer.resblocks.0.ln_1.weight", "visual.conv1.weight"], "CLIP"),
        (["stages.0.0.conv_dw.weight", "stem.0.weight"], "ConvNeXt"),
        (["layer1.0.conv1.weight", "fc.weight"], "ResNet"),
        (["x.lora_A.weight", "x.lora_B.weight"], "LoRA"),
    ],
)  # fmt: skip
def test_other_networks_are_told_for_what_they_are(tmp_path, names, said):
    assert said in refused(tmp_path, {name: np.ones((2, 2), np.float32) for name in names})


@pytest.mark.parametrize(
    ("more", "said"),
    [("last_norm.weight", "ViTPose"), ("blocks.0.attn.rel_pos_h", "SAM"), ("storage_tokens", "DINOv3"),
     ("norm_pre.weight", "CLIP"), ("rope.periods", "rotary")],
)  # fmt: skip
def test_what_is_not_supported_is_told_instead_of_an_unknown_name(tmp_path, more, said):
    content = prefixed("backbone.", small.vit() | {more: np.ones(8, np.float32)})
    assert said in refused(tmp_path, content)
    assert any("though not known" in note for note in read(tmp_path, content, lenient=True).notes)


def test_an_unknown_layout_is_told_with_the_nearest_one(tmp_path):
    content = {name.replace("fc1", "linear"): value for name, value in small.vit().items()}
    assert "nearly those of 'timm_vit_swiglu', but no blocks.{i}.mlp.fc1.weight" in refused(tmp_path, content)


def test_a_norm_of_the_readout_is_left_out_where_there_is_no_classifier(tmp_path):
    draw = small.Draw(3)
    arrays = small.vit(last_norm=False)
    model = read(tmp_path, arrays | small.norm(draw, "fc_norm", small.WIDTH))
    assert not model.encoder_config.final_norm and model.objective is None
    assert any("belong to a classifier that is not there: fc_norm.weight, fc_norm.bias" in note for note in model.notes)


def test_one_part_of_several_files_says_so(tmp_path):
    arrays = small.vit()
    part = {name: value for name, value in arrays.items() if not name.startswith("patch_embed")}
    path = write_arrays(tmp_path / "model-00002-of-00002.pth", part)
    with pytest.raises(InputError, match="one part of several, give their folder"):
        load(path, stated=STATED)
