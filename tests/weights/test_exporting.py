"""What goes in comes out: bit for bit, in every layout."""

import functools

import jax
import numpy as np
import pytest

from mim_jax.data.preprocessing import Preprocessing
from mim_jax.errors import InputError
from mim_jax.models.presets import encoder_config
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.weights.exporting import export, export_arrays
from mim_jax.weights.importing import understand
from mim_jax.weights.layouts import LAYOUTS, Layout
from mim_jax.weights.loading import load
from mim_jax.weights.matching import Entry
from mim_jax.weights.model import Model
from mim_jax.weights.model_directory import save_model
from mim_jax.weights.options import Options
from tests import golden_cases as golden
from tests.weights.test_import_parity import HUGGING_FACE, MAE, MASKED, NETWORKS, statements

CASES = [*NETWORKS, *HUGGING_FACE, *MASKED, *MAE, "lut_pretrain", "hf_vitmae_encoder"]


@functools.cache  # nothing is read of the file yet
def open_case(name, **options):
    if name.startswith("hf_"):
        return understand(golden.FOLDER / name, Options(**options))
    return understand(golden.FOLDER / name / "checkpoint.pth", Options(stated=statements(name), **options))


def plain_names(layout: Layout, entry: Entry) -> tuple[str, ...]:
    """Names as the layout has them; those of the entry are the file's own."""
    return next(names for rule, names in layout.sources_of(entry.path) if rule == entry.rule)


@pytest.mark.parametrize("name", CASES)
def test_round_trip_is_exact_to_the_bit(name):
    understood = open_case(name, dtype="keep")
    layout = understood.layout
    there = {n: p.read() for entry in understood.entries for n, p in zip(plain_names(layout, entry), entry.parts)}
    back = {layout.plain_name(n): array for n, array in export_arrays(understood.model(), layout.name).items()}
    assert back.keys() == there.keys()
    for key, array in there.items():
        assert back[key].dtype == array.dtype and back[key].shape == array.shape, key
        assert back[key].tobytes() == np.ascontiguousarray(array).tobytes(), key


def test_every_layout_makes_a_round_trip():
    assert {open_case(name, dtype="keep").layout.name for name in CASES} >= LAYOUTS.keys() - {"linear_probe"}


def test_written_file_is_read_again_as_the_same_model(tmp_path):
    model = open_case("mae_pretrain").model()
    file = export(model, tmp_path / "mae.safetensors")
    again = load(file, stated=statements("mae_pretrain"))
    assert again.encoder_config == model.encoder_config and again.objective == model.objective
    jax.tree.map(np.testing.assert_array_equal, again.parameters, model.parameters)


@pytest.mark.parametrize("name, first", [("mae_pretrain", "blocks.0"), ("simmim_vit_pretrain", "encoder.blocks.0")])
def test_names_are_those_of_the_original(name, first):
    theirs = {n for n in golden.checkpoint(name) if "relative_position_index" not in n}
    assert export_arrays(open_case(name).model()).keys() == theirs
    assert any(n.startswith(first) for n in theirs)


def test_model_of_this_package_gets_the_names_of_its_method(tmp_path):
    config = encoder_config("vit_tiny_patch16", image_size=(32, 32), depth=1)
    objective = MaskedAutoencoder(config, DecoderConfig(width=32, depth=1, num_heads=2))
    model = Model(config, objective.init(jax.random.key(0)), Preprocessing((32, 32)), objective)
    names = export_arrays(model)
    assert {"blocks.0.attn.qkv.weight", "decoder_pred.bias", "mask_token"} <= names.keys()
    assert names["blocks.0.attn.qkv.weight"].shape == (576, 192)


def test_layout_without_a_name_for_something_is_refused():
    with pytest.raises(InputError, match="layout 'timm_vit' has no name for decoder/"):
        export_arrays(open_case("mae_pretrain").model(), "timm_vit")


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(InputError, match="must end in .safetensors or .pth"):
        export(open_case("timm_vit_nohead").model(), tmp_path / "model.h5")
    assert not list(tmp_path.iterdir())


def test_model_directory_gives_the_same_model_again(tmp_path):
    for name in ("hf_beit", "swinv2_classifier", "lut_pretrain", "timm_vit_gap_nocls"):
        model = open_case(name).model()
        save_model(model, tmp_path / name)
        again = load(tmp_path / name)
        assert (again.encoder_config, again.objective) == (model.encoder_config, model.objective)
        assert again.preprocessing == model.preprocessing
        jax.tree.map(np.testing.assert_array_equal, again.parameters, model.parameters)
