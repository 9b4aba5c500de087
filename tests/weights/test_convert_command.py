"""The conversion command, as a user meets it."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import convert_torch_weights
import mim_jax
from mim_jax.weights import model_directory
from tests import golden_cases as golden
from tests.weights.test_import_parity import statements

MAE = golden.FOLDER / "mae_pretrain" / "checkpoint.pth"
MAE_FLAGS = ["--set", "num_heads=4", "--set", "decoder.num_heads=4"]
SIMMIM = golden.FOLDER / "simmim_vit_pretrain" / "checkpoint.pth"


def run(*arguments):
    return convert_torch_weights.main([str(argument) for argument in arguments])


def test_checkpoint_becomes_a_model_directory(tmp_path, capsys):
    assert run(MAE, tmp_path / "model", *MAE_FLAGS) == 0
    told = capsys.readouterr().out
    assert "layout: mae" in told and "121,168 numbers in 74 arrays" in told and "wrote" in told
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    assert description["origin"]["layout"] == "mae" and len(description["origin"]["sha256"]) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    again = mim_jax.load(tmp_path / "model")
    direct = mim_jax.load(MAE, stated=statements("mae_pretrain") | {"normalise_target": False})
    jax.tree.map(np.testing.assert_array_equal, again.parameters, direct.parameters)


def test_model_directory_goes_back_to_the_same_arrays(tmp_path):
    run(MAE, tmp_path / "model", *MAE_FLAGS)
    assert run(tmp_path / "model", tmp_path / "back.safetensors", "--to", "torch") == 0
    arrays, _ = mim_jax.weights.files.safetensors_file.read_safetensors(tmp_path / "back.safetensors")
    theirs = golden.checkpoint("mae_pretrain")
    assert arrays.keys() == theirs.keys()
    assert all(np.array_equal(arrays[name].read(), theirs[name]) for name in theirs)


def test_heads_that_cannot_be_told_are_asked_for(tmp_path, capsys):
    assert run(MAE, tmp_path / "model") == 2
    assert "the number of attention heads cannot be told" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_usual_heads_are_told_as_taken_for_granted(tmp_path):
    arrays = {
        "cls_token": np.ones((1, 1, 192)), "pos_embed": np.ones((1, 5, 192)), "patch_embed.proj.bias": np.ones(192),
        "patch_embed.proj.weight": np.ones((192, 3, 4, 4)), "norm.weight": np.ones(192), "norm.bias": np.ones(192),
    }  # fmt: skip
    shapes = {
        "norm1.weight": 192, "norm1.bias": 192, "attn.qkv.weight": (576, 192), "attn.qkv.bias": 576,
        "attn.proj.weight": (192, 192), "attn.proj.bias": 192, "norm2.weight": 192, "norm2.bias": 192,
        "mlp.fc1.weight": (768, 192), "mlp.fc1.bias": 768, "mlp.fc2.weight": (192, 768), "mlp.fc2.bias": 192,
    }  # fmt: skip
    arrays |= {f"blocks.0.{name}": np.ones(shape) for name, shape in shapes.items()}
    np.savez(tmp_path / "tiny.npz", **arrays)
    model = mim_jax.load(tmp_path / "tiny.npz")
    assert model.encoder_config.num_heads == 3
    assert any("num_heads=3, as usual for width 192" in note for note in model.notes)
    assert mim_jax.load(tmp_path / "tiny.npz", stated={"num_heads": 12}).encoder_config.num_heads == 12


def test_larger_image_adapts_positions_and_leaves_the_decoder(tmp_path, capsys):
    assert run(MAE, tmp_path / "model", *MAE_FLAGS, "--image_size", "48") == 0
    assert "left out the decoder" in capsys.readouterr().out
    model = mim_jax.load(tmp_path / "model")
    assert model.encoder_config.grid == (12, 12) and model.objective is None
    assert model.parameters["encoder"]["pos_embed"]["table"].shape == (145, 48)


def test_head_is_dropped_when_asked(tmp_path):
    classifier = golden.FOLDER / "timm_vit_cls" / "checkpoint.pth"
    heads = golden.case("timm_vit_cls")["model"]["num_heads"]
    assert run(classifier, tmp_path / "model", "--set", f"num_heads={heads}", "--head", "drop") == 0
    assert mim_jax.load(tmp_path / "model").parameters.keys() == {"encoder"}


def test_shared_bias_becomes_one_per_block(tmp_path):
    assert run(SIMMIM, tmp_path / "model", "--relative_position_bias", "per_block", "--head", "drop") == 0
    model = mim_jax.load(tmp_path / "model")
    assert model.encoder_config.relative_position_bias == "per_block"
    assert "relative_position_bias" in model.parameters["encoder"]["blocks"]["0"]["attn"]


def test_selected_network_is_taken(tmp_path, capsys):
    full = golden.FOLDER / "dino_full_checkpoint" / "checkpoint.pth"
    heads = golden.case("dino_full_checkpoint")["model"]["num_heads"]
    assert run(full, tmp_path / "model", "--set", f"num_heads={heads}", "--select", "student") == 0
    assert "network: student/backbone" in capsys.readouterr().out
    assert run(full, tmp_path / "other", "--select", "nobody") == 2
    assert "there is no 'nobody' in it; it has 'student/backbone', 'teacher/backbone'" in capsys.readouterr().err


def test_inspecting_shows_arrays_statistics_and_the_guess(capsys):
    assert run(MAE, "--inspect", *MAE_FLAGS) == 0
    told = capsys.readouterr().out
    assert "model/blocks.0.attn.qkv.weight  [144, 48]  float32  mean" in told and "layout: mae" in told


def test_inspecting_a_file_of_unknown_layout_still_shows_it(capsys):
    assert run(golden.FOLDER / "bad" / "other_architecture.pth", "--inspect") == 0
    told = capsys.readouterr().out
    assert "conv1.weight" in told and "not understood" in told


def test_known_checkpoints_are_listed(capsys):
    assert run("--list", "mae") == 0
    assert "mae_pretrain_vit_base.pth" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], "no checkpoint given"),
        (["{mae}"], "no output given"),
        (["/nowhere.pth", "{out}"], "/nowhere.pth"),
        (["{mae}", "{out}", "--set", "num_head=4"], "did you mean 'num_heads'?"),
        (["{mae}", "{out}", "--set", "num_heads"], "write --set KEY=VALUE"),
        (["{mae}", "{out}", "--set", "num_heads=5"], "width 48 is not divisible by 5 heads"),
        (
            ["{mae}", "{out}", "--set", "num_heads=four"],
            "num_heads of --set must be a whole number from 1 to 16384, not four",
        ),
        (["{mae}", "{out}", "--set", "image_size=40,40", *MAE_FLAGS], "table of positions has 65 rows"),
        (["{mae}", "{out}", "--layout", "keras"], "unknown layout 'keras'"),
        (["{mae}", "{out}", "--layout", "swin"], "it lacks"),
        (["{mae}", "{out}", "--dtype", "int8"], "weights cannot be of type 'int8'"),
        (["{mae}", "{out}", "--image_size", "big"], "--image_size=big is no size"),
        (["{mae}", "{mae}"], "is there already and is no model directory"),
        (["--list", "dinov9"], "did you mean"),
    ],
)
def test_mistakes_end_in_one_sentence(arguments, expected, tmp_path, capsys):
    filled = [argument.format(mae=MAE, out=tmp_path / "out") for argument in arguments]
    assert run(*filled) == 2
    told = capsys.readouterr().err
    assert expected in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_model_that_is_there_is_replaced_only_when_asked(tmp_path, capsys):
    run(MAE, tmp_path / "model", *MAE_FLAGS)
    assert run(MAE, tmp_path / "model", *MAE_FLAGS) == 2
    assert "holds a model already" in capsys.readouterr().err
    assert run(MAE, tmp_path / "model", *MAE_FLAGS, "--overwrite", "--dtype", "bfloat16") == 0
    assert mim_jax.load(tmp_path / "model").parameters["encoder"]["norm"]["scale"].dtype == "bfloat16"


def test_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(model_directory, "write_in_place", full)
    assert run(MAE, tmp_path / "model", *MAE_FLAGS) == 2
    assert "No space left on device; make room there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_interruption_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(model_directory, "write_in_place", interrupt)
    assert run(MAE, tmp_path / "model", *MAE_FLAGS) == 130
    assert "nothing was written" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_help_and_list_come_without_jax():
    command = Path(convert_torch_weights.__file__)
    code = f"import sys; sys.argv = ['x', '--list', 'simmim']; sys.path.insert(0, {str(command.parent)!r})\n"
    code += "import convert_torch_weights as c; status = c.main(); sys.exit(status or 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "simmim_pretrain__swin_base" in done.stdout


def test_failed_conversion_removes_the_folders_that_it_made_and_keeps_the_model_that_was_there(tmp_path, monkeypatch):
    run(MAE, tmp_path / "model", *MAE_FLAGS)
    before = (tmp_path / "model" / "parameters.safetensors").read_bytes()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(model_directory, "write_in_place", full)
    assert run(MAE, tmp_path / "model", *MAE_FLAGS, "--overwrite") == 2
    assert run(MAE, tmp_path / "some" / "where" / "else", *MAE_FLAGS) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "parameters.safetensors").read_bytes() == before
