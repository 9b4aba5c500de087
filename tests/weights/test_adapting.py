"""Loaded encoders at another size against the fine-tuning loaders of the original codes."""

import dataclasses
import functools
import re
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.models.build import initial_parameters, make_encoder
from mim_jax.models.classifier import READOUTS
from mim_jax.models.swin import SwinConfig
from mim_jax.models.vit import VisionTransformerConfig
from mim_jax.ops.positions import sincos_position_table
from mim_jax.ops.relative_positions import log_spaced_offsets
from mim_jax.weights.adapting import FINE_TUNINGS, adapt, for_fine_tuning
from tests import golden_cases as golden
from tests import swin_golden, vit_golden

TOLERANCE = 1e-5

SIMMIM_VIT = {
    "mask_token": True,
    "position": "none",
    "position_prefix": 0,
    "relative_position_bias": "shared",
    "qkv_bias": "query_value",
    "layer_scale": 0.1,
}

SMALL_VIT = VisionTransformerConfig((32, 32), (8, 8), width=8, depth=2, num_heads=2)
SMALL_SWIN = SwinConfig(1, (32, 32), width=4, depths=(2, 1), num_heads=(1, 2), window=4, position="learned")
SMALL_SWIN_V2 = dataclasses.replace(SMALL_SWIN, version=2, position="none")


@functools.partial(jax.jit, static_argnums=0)
def encode(config, parameters, images):
    return make_encoder(config).apply({"params": parameters}, images).tokens


def agree(ours, theirs):
    assert golden.relative_error(ours, theirs) <= TOLERANCE


@functools.cache
def leaves_of(config: Any) -> Any:
    return jax.eval_shape(lambda: initial_parameters(config, jax.random.key(0)))


def some(config: Any) -> Any:
    """Parameters for a configuration, each another part of a sine."""
    leaves, structure = jax.tree.flatten(leaves_of(config))
    waves = [np.sin(np.arange(leaf.size) + 7 * i).reshape(leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, [wave.astype(np.float32) for wave in waves])


def same(one: Any, other: Any) -> bool:
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other))
    )


def runs(adapted: Any) -> bool:
    """Whether the parameters are those of the configuration."""
    expected = jax.tree.map(lambda leaf: leaf.shape, leaves_of(adapted.config))
    return jax.tree.map(np.shape, adapted.parameters) == expected


# Loading for fine-tuning, as recorded.


def swin_case(name: str, version: int, **fields: Any) -> tuple[SwinConfig, Any, Any, Any]:
    model, target = golden.case(name)["source_model"], golden.case(name)["target_model"]
    config = SwinConfig(
        version,
        (model["img_size"],) * 2,
        (model["patch_size"],) * 2,
        width=model["embed_dim"],
        depths=tuple(model["depths"]),
        num_heads=tuple(model["num_heads"]),
        window=model["window_size"],
        **fields,
    )
    encoder = swin_golden.from_tensors(golden.checkpoint(name), model["num_heads"])["encoder"]
    arguments = {"image_size": (target["img_size"],) * 2, "window": target["window_size"]}
    return config, encoder, arguments, golden.arrays(name)


def swin_tables_agree(adapted, arrays):
    for name in [name for name in arrays if name.startswith("target/")]:
        ours = adapted.parameters
        for key in swin_golden.our_path(name.removeprefix("target/"))[1:]:
            ours = ours[key]
        agree(ours, arrays[name].reshape(ours.shape))


def swin_features_agree(adapted, arrays):
    tokens = encode(adapted.config, adapted.parameters, golden.channels_last(arrays["images"]))
    agree(tokens.mean(axis=1), arrays["features"])


@pytest.mark.parametrize("name", ["simmim_finetune_load_swin_same", "simmim_finetune_load_swin_larger"])
def test_simmim_swin_loads_as_recorded(name):
    config, encoder, arguments, arrays = swin_case(name, 1, mask_token=True)
    tuned = for_fine_tuning(config, encoder, "swin")
    adapted = adapt(tuned.config, tuned.parameters, **arguments)
    assert runs(adapted)
    swin_tables_agree(adapted, arrays)
    swin_features_agree(adapted, arrays)


def test_swin_loads_as_its_own_code_does():
    config, encoder, arguments, arrays = swin_case("swin_finetune_load_v1", 1, position="learned")
    adapted = adapt(config, encoder, **arguments, tables="bicubic")
    assert runs(adapted)
    assert adapted.notes == (
        "absolute positions went from 16x16 to 24x24 patches (bicubic)",
        "relative position biases went from 4x4 to 6x6 tokens (bicubic)",
    )
    swin_tables_agree(adapted, arrays)
    swin_features_agree(adapted, arrays)


@pytest.mark.parametrize(
    "name, told, reference",
    [
        ("swin_finetune_load_v2", {}, (4, 4)),
        ("swin_finetune_load_v2_no_pretrained_window", {"pretrained_windows": ()}, ()),
        ("swinv2_simmim_finetune_load", {}, (4, 4)),
    ],
)
def test_swin_v2_relates_to_the_windows_it_had_unless_told(name, told, reference):
    config, encoder, arguments, arrays = swin_case(name, 2, mask_token=name.startswith("swinv2"))
    tuned = for_fine_tuning(config, encoder, "swin")
    adapted = adapt(tuned.config, tuned.parameters, **arguments, **told)
    assert adapted.config.pretrained_windows == reference
    assert runs(adapted) and same(adapted.parameters, tuned.parameters)
    swin_features_agree(adapted, arrays)
    if "coords_table" in arrays:
        side = reference[0] if reference else 6
        agree(log_spaced_offsets((6, 6), (side, side)), arrays["coords_table"].reshape(-1, 2))


@pytest.mark.parametrize("size", ["same", "larger", "smaller"])
def test_simmim_vit_loads_as_recorded(size):
    name = f"simmim_finetune_load_vit_{size}"
    model, arrays = golden.case(name)["source_model"], golden.arrays(name)
    side, patch = model["img_size"], model["patch_size"]
    sizes = {"width": model["embed_dim"], "depth": model["depth"], "num_heads": model["num_heads"]}
    config = VisionTransformerConfig((side, side), (patch, patch), **sizes, **SIMMIM_VIT)
    tensors = {key.removeprefix("encoder."): array for key, array in golden.checkpoint(name).items()}
    encoder = vit_golden.parameters(tensors, model["num_heads"])["encoder"]
    tuned = for_fine_tuning(config, encoder, "simmim_vit")
    adapted = adapt(tuned.config, tuned.parameters, image_size=(golden.case(name)["target_model"]["img_size"],) * 2)
    assert runs(adapted) and not adapted.config.final_norm and not adapted.config.mask_token
    tables = [block["attn"]["relative_position_bias"]["table"] for block in adapted.parameters["blocks"].values()]
    recorded = arrays["target/blocks.0.attn.relative_position_bias_table"]
    for table in tables:
        agree(table, recorded)
    agree(encode(adapted.config, adapted.parameters, golden.channels_last(arrays["images"])), arrays["tokens"])


@pytest.mark.parametrize(
    "name, key, source, target, positions",
    [
        ("pos_embed_interpolation", "target", (8, 8), (16, 16), "bicubic"),
        *(
            ("timm_pos_embed_resample", f"target_{rows}x{columns}", (4, 4), (rows, columns), "bicubic_antialiased")
            for rows, columns in [(8, 8), (3, 3), (7, 5), (2, 2)]
        ),
    ],
)
def test_absolute_positions_are_resized_as_recorded(name, key, source, target, positions):
    table = golden.arrays(name)["source"][0]
    pixels = {grid: (4 * grid[0], 4 * grid[1]) for grid in (source, target)}
    config = VisionTransformerConfig(
        pixels[source], (4, 4), width=table.shape[1], depth=1, num_heads=1, position="learned"
    )
    adapted = adapt(config, {"pos_embed": {"table": table}}, image_size=pixels[target], positions=positions)
    agree(adapted.parameters["pos_embed"]["table"], golden.arrays(name)[key][0])


@pytest.mark.parametrize("side", [3, 6, 8])
def test_tables_are_resized_as_timm_does(side):
    arrays = golden.arrays("timm_rel_pos_table_resize")
    fields = SIMMIM_VIT | {"relative_position_bias": "per_block"}
    config = VisionTransformerConfig((16, 16), (4, 4), width=8, depth=1, num_heads=4, **fields)
    encoder = {"blocks": {"0": {"attn": {"relative_position_bias": {"table": arrays["source"]}}}}}
    adapted = adapt(config, encoder, image_size=(4 * side, 4 * side), tables="timm")
    agree(adapted.parameters["blocks"]["0"]["attn"]["relative_position_bias"]["table"], arrays[f"target_{side}"])


# What holds for any encoder.


@pytest.mark.parametrize(
    "config",
    [
        SMALL_VIT,
        dataclasses.replace(SMALL_VIT, image_size=(32, 48), **SIMMIM_VIT),
        dataclasses.replace(SMALL_VIT, **SIMMIM_VIT | {"relative_position_bias": "per_block"}),
        SMALL_SWIN,
        SMALL_SWIN_V2,
    ],
)
def test_same_size_changes_nothing(config):
    encoder = some(config)
    window = {"window": config.window} if isinstance(config, SwinConfig) else {}
    for adapted in (adapt(config, encoder), adapt(config, encoder, image_size=config.image_size, **window)):
        assert adapted.config == config and adapted.notes == ()
        assert same(adapted.parameters, encoder)


def test_the_given_parameters_stay_as_they_are():
    config = dataclasses.replace(SMALL_VIT, **SIMMIM_VIT)
    encoder, untouched = some(config), some(config)
    adapted = adapt(config, encoder, image_size=(48, 48), relative_position_bias="per_block")
    assert runs(adapted) and same(encoder, untouched)
    adapted.parameters["blocks"]["0"]["attn"]["relative_position_bias"]["table"][:] = 7
    assert not np.any(adapted.parameters["blocks"]["1"]["attn"]["relative_position_bias"]["table"] == 7)


def test_shared_bias_in_every_block_gives_the_same_tokens():
    config = dataclasses.replace(SMALL_VIT, image_size=(32, 48), **SIMMIM_VIT)
    encoder = some(config)
    adapted = adapt(config, encoder, relative_position_bias="per_block")
    assert adapted.notes == ("the shared relative position bias was copied to all 2 blocks",)
    assert adapted.config.relative_position_bias == "per_block" and runs(adapted)
    images = np.sin(np.arange(32 * 48 * 3, dtype=np.float32)).reshape(1, 32, 48, 3)
    agree(encode(adapted.config, adapted.parameters, images), encode(config, encoder, images))


def test_stages_whose_windows_are_cut_down_keep_their_own_sizes():
    config = SwinConfig(1, (48, 48), width=4, depths=(1, 2), num_heads=(1, 2), window=12)
    assert config.stage_windows == ((12, 12), (6, 6))
    adapted = adapt(config, some(config), image_size=(56, 56), window=14)
    assert adapted.config.stage_windows == ((14, 14), (7, 7)) and runs(adapted)
    assert adapted.notes == (
        "relative position biases went from 12x12 to 14x14 tokens (geometric)",
        "relative position biases went from 6x6 to 7x7 tokens (geometric)",
    )


def test_one_window_replaces_those_of_every_stage():
    config = dataclasses.replace(SMALL_SWIN, windows=(4, 2), position="none")
    adapted = adapt(config, some(config), image_size=(48, 48), window=3, tables="timm")
    assert adapted.config.stage_windows == ((3, 3), (3, 3)) and runs(adapted)


def test_swin_v2_keeps_the_windows_it_was_trained_with_before():
    config = dataclasses.replace(SMALL_SWIN_V2, pretrained_windows=(6, 0))
    adapted = adapt(config, some(config), image_size=(64, 64), window=8)
    assert adapted.config.pretrained_windows == (6, 4)
    assert adapted.notes == ("the offsets of its relative position bias relate to windows of 6, 4",)
    assert adapt(config, some(config), image_size=(64, 64)).config == dataclasses.replace(config, image_size=(64, 64))


def test_fixed_positions_are_interpolated_unless_they_are_to_be_recomputed():
    encoder = {"pos_embed": {"table": sincos_position_table((4, 4), 8).astype(np.float32)}}
    stored = adapt(SMALL_VIT, encoder, image_size=(48, 24)).parameters["pos_embed"]["table"]
    anew = adapt(SMALL_VIT, encoder, image_size=(48, 24), positions="recomputed").parameters["pos_embed"]["table"]
    np.testing.assert_array_equal(anew, sincos_position_table((6, 3), 8).astype(np.float32))
    assert stored.shape == anew.shape and np.abs(stored - anew).max() > 0.1


# Fine-tuning.


@pytest.mark.parametrize("method", FINE_TUNINGS)
def test_fine_tuning_drops_what_its_loader_drops(method):
    recipe = FINE_TUNINGS[method]
    config = dataclasses.replace(SMALL_SWIN if recipe.swin else SMALL_VIT, mask_token=True)
    encoder = some(config)
    tuned = for_fine_tuning(config, encoder, method)
    assert runs(tuned) and recipe.readout in ("", *READOUTS)
    assert encoder.keys() - tuned.parameters.keys() == {"mask_token"} | ({"norm"} if not recipe.final_norm else set())
    assert tuned.config.position == "learned"
    assert same({name: encoder[name] for name in tuned.parameters}, tuned.parameters)


def test_fine_tuning_says_what_it_did():
    tuned = for_fine_tuning(SMALL_VIT, some(SMALL_VIT), "mae")
    assert tuned.notes == ("norm was dropped", "absolute positions are trained from now on")


def test_fine_tuning_with_the_loader_of_another_family_is_refused():
    with pytest.raises(InputError, match="'swin' is for a Swin Transformer; choose another method"):
        for_fine_tuning(SMALL_VIT, {}, "swin")
    with pytest.raises(InputError, match="method must be one of mae, .*, not 'beit'"):
        for_fine_tuning(SMALL_VIT, {}, "beit")


# Refusals.

SHARED = dataclasses.replace(SMALL_VIT, **SIMMIM_VIT)
PER_BLOCK = dataclasses.replace(SHARED, relative_position_bias="per_block")

REFUSED = [
    (SMALL_SWIN, {"window": 3}, "the map of stage 0 has 8x8 tokens, which windows of 3x3 do not divide; choose"),
    (SMALL_VIT, {"image_size": (36, 32)}, "image size 36x32 is not divisible by the patch size 8x8"),
    (SMALL_VIT, {"image_size": (0, 0)}, "an image of 0x0 has no pixels"),
    (SMALL_VIT, {"window": 4}, "a Vision Transformer has no windows; leave out window"),
    (PER_BLOCK, {"relative_position_bias": "shared"}, "is 'per_block' and cannot become 'shared'; only 'shared' can"),
    (SMALL_VIT, {"relative_position_bias": "per_block"}, "is 'none' and cannot become 'per_block'"),
    (SMALL_SWIN, {"relative_position_bias": "shared"}, "is 'per_block' and cannot become 'shared'"),
    (SMALL_VIT, {"positions": "nearest"}, "positions must be one of bicubic, .*, recomputed, not 'nearest'"),
    (SMALL_VIT, {"tables": "nearest"}, "tables must be one of geometric, bicubic, timm, not 'nearest'"),
    (SHARED, {"image_size": (32, 48)}, "'geometric' resizes the bias tables of square windows only, not 4x4 to 4x6"),
    (SMALL_SWIN, {"image_size": (64, 64), "positions": "recomputed"}, "learned positions cannot be recomputed; choose"),
    (SMALL_SWIN, {"pretrained_windows": (4, 4)}, "pretrained_windows belong to version 2"),
    (
        dataclasses.replace(SMALL_SWIN_V2, window=(4, 2)),
        {"image_size": (64, 64), "window": 8},
        "windows of 4x2 tokens are not square",
    ),
]


@pytest.mark.parametrize("config, arguments, message", REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(config, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        adapt(config, some(config), **arguments)
    assert "\n" not in str(caught.value) and len(re.findall(r"\. [A-Z]", str(caught.value))) == 0


def test_parameters_that_are_not_the_encoders_are_refused():
    encoder = some(SMALL_VIT)
    with pytest.raises(InputError, match="no parameter pos_embed/table; give an encoder's parameters, block by block"):
        adapt(SMALL_VIT, {"encoder": encoder}, image_size=(64, 64))
    with pytest.raises(InputError, match="position table has 17 rows, which is not 1 \\+ 2x2"):
        adapt(dataclasses.replace(SMALL_VIT, image_size=(16, 16)), encoder, image_size=(64, 64))


def test_importing_it_does_not_import_jax():
    program = "import sys, mim_jax.weights.adapting; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
