"""The table of known checkpoints: its entries hold together, and it can be searched."""

import json
import subprocess
import sys
from importlib import resources

import pytest

from mim_jax.errors import InputError
from mim_jax.models.presets import ENCODERS
from mim_jax.weights.known import COLUMNS, KnownCheckpoint, find_checkpoints, known_checkpoints, table
from mim_jax.weights.layouts import LAYOUTS

PROTOCOLS = {"fine-tuning", "linear", "k-NN", "supervised"}
VIT_DEPTHS = {"vit_base_patch16": 12, "vit_large_patch16": 24, "vit_huge_patch14": 32}


def entry(file):
    (found,) = [entry for entry in known_checkpoints() if entry.file == file]
    return found


def test_every_file_is_named_once():
    files = [entry.file for entry in known_checkpoints()]
    assert len(set(files)) == len(files)
    assert 60 <= len(files) <= 90


@pytest.mark.parametrize("known", known_checkpoints(), ids=lambda known: known.file)
def test_an_entry_holds_together(known):
    assert known.layout in ("", *LAYOUTS)
    assert known.architecture in ENCODERS or " " in known.architecture, "a preset that there is not"
    assert known.keys is None or known.keys > 100
    assert known.published.startswith(("https://", "Google Drive id "))
    assert known.accuracy is None or (set(known.accuracy) <= PROTOCOLS and known.accuracy)
    assert all(60 < value < 92 for value in (known.accuracy or {}).values())


def test_checkpoints_of_a_method_stand_together():
    methods = [entry.method for entry in known_checkpoints()]
    changes = sum(before != after for before, after in zip(methods, methods[1:]))
    assert changes + 1 == len(set(methods))


@pytest.mark.parametrize("size", ["base", "large", "huge"])
def test_numbers_of_tensors_of_mae_follow_from_the_depth(size):
    encoder = entry(f"mae_pretrain_vit_{size}.pth")
    assert encoder.keys == 6 + 12 * VIT_DEPTHS[encoder.architecture]  # class token, positions, patches, norm
    assert entry(f"mae_pretrain_vit_{size}_full.pth").keys == encoder.keys + 8 + 12 * 8
    assert entry(f"mae_finetuned_vit_{size}.pth").keys == encoder.keys + 2


def test_traps_are_told():
    assert "12 heads" in entry("mae_tiny_400e.pth.tar").notes
    assert "Encoder only" in entry("mae_pretrain_vit_base.pth").notes
    assert "Another training run" in entry("mae_visualize_vit_base.pth").notes
    assert "fc_norm" in entry("mae_finetuned_vit_base.pth").notes


def test_the_table_holds_every_checkpoint_under_its_title():
    lines = table().splitlines()
    assert lines[0].split() == list(COLUMNS)
    assert len(lines) == 2 + len(known_checkpoints())
    for size in ("base", "large", "huge"):
        assert f"mae_pretrain_vit_{size}.pth" in table()


def test_columns_of_the_table_are_aligned():
    title, rule, *rows = table().splitlines()
    starts = [title.index(column) for column in COLUMNS]
    assert starts == [0, *(index + 2 for index in range(len(rule)) if rule[index : index + 3] == "  -")]
    assert all(row[start - 2 : start] == "  " and row[start] != " " for row in rows for start in starts[1:])


def test_search_narrows_the_table_whatever_the_capitals():
    found = find_checkpoints("DINOv2 large")
    assert found and all("dinov2" in entry.layout and "large" in entry.architecture for entry in found)
    assert table("DINOv2 large") == table("dinov2 LARGE")
    assert len(table("mae_pretrain_vit_base.pth").splitlines()) == 3
    assert "fine-tuning 83.6, linear 67.8" in table("mae_pretrain_vit_base.pth")


def test_a_dash_stands_for_what_is_not_known():
    unknown = entry("facebook/data2vec-vision-base-ft1k")
    assert unknown.keys is None and unknown.accuracy is None
    assert table(unknown.file).splitlines()[-1].split()[-3:-1] == ["-", "-"]


@pytest.mark.parametrize(
    "search, nearest",
    [("mae_pretrain_vit_bsae.pth", "mae_pretrain_vit_base.pth"), ("simmin", "simmim"), ("large maskfeet", "maskfeat")],
)
def test_unknown_word_gets_the_nearest_name(search, nearest):
    with pytest.raises(InputError, match=f"no known checkpoint matches '{search}'; did you mean '{nearest}'"):
        table(search)


@pytest.mark.parametrize("search", ["qqqqqq", "mae swinv2 dino"])
def test_words_that_resemble_nothing_get_the_methods(search):
    with pytest.raises(InputError, match="known methods are MAE, SimMIM, "):
        table(search)


def test_the_file_has_the_fields_of_an_entry_and_no_others():
    text = resources.files("mim_jax.weights").joinpath("known_checkpoints.json").read_text(encoding="utf-8")
    assert all(list(entry) == list(KnownCheckpoint.__dataclass_fields__) for entry in json.loads(text))


def test_importing_needs_no_jax():
    code = "import sys, mim_jax.weights.known as known; known.table(); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
