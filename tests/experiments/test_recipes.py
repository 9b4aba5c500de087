"""The published recipes, resolved and compared number by number, and what a dry run tells of them."""

import dataclasses
import importlib
import json
import re
from pathlib import Path

import pytest

from mim_jax.experiments import pretrain
from mim_jax.experiments.settings import resolve

GOLDEN = Path(__file__).parents[1] / "golden" / "recipes"


@pytest.mark.parametrize("recipe", ["mae_vit_b16", "mae_vit_l16", "mae_vit_h14"])
def test_recipe_is_the_published_one(recipe):
    config = importlib.import_module(f"configs.pretrain.{recipe}").get_config()
    resolved = json.loads(json.dumps(dataclasses.asdict(resolve(config))))
    assert resolved == json.loads((GOLDEN / f"{recipe}.json").read_text())


def test_dry_run_tells_parameters_work_and_memory(tmp_path, capsys):
    config = importlib.import_module("configs.pretrain.mae_vit_b16").get_config()
    config.run.dry_run = True
    pretrain.run(resolve(config), tmp_path / "run")
    text = capsys.readouterr().out
    assert '"norm_pix_loss": true' in text and "111,907,840" in text
    assert "499,200 steps = 1600 epochs of 312 steps of 4,096 images; warm-up 12,480 steps" in text
    assert "peak learning rate 2.400e-03" in text and "58.1" in text and "activations" in text
    assert not (tmp_path / "run").exists()


def test_dry_run_divides_over_devices_that_are_not_here(tmp_path, capsys):
    config = importlib.import_module("configs.pretrain.mae_vit_l16").get_config()
    config.run.dry_run = True
    config.efficiency.mesh_data, config.efficiency.mesh_fsdp, config.efficiency.mesh_tensor = 32, 4, 2
    pretrain.run(resolve(config), tmp_path / "run")
    text = capsys.readouterr().out
    assert "mesh data 32 x fsdp 4 x tensor 2" in text and "activations of 32 images" in text
    assert re.search(r"24x1024x3x16x64 +75,497,472  \(-, fsdp, -, tensor, -\)", text)
