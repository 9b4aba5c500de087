"""The published recipes, resolved and compared number by number, and what a dry run tells of them."""

import dataclasses
import importlib
import json
import re
from pathlib import Path

import pytest

from mim_jax.experiments import pretrain
from mim_jax.experiments.optimization import make_schedule
from mim_jax.experiments.settings import resolve
from tests.experiments.runs import ROOT

GOLDEN = Path(__file__).parents[1] / "golden" / "recipes"
RECIPES = sorted(path.stem for path in GOLDEN.glob("*.json"))
SMALL = sorted(
    f"{folder}.{path.stem}"
    for folder in ("cifar10", "imagenette")
    for path in (ROOT / "configs" / folder).glob("*.py")
    if path.stem != "small"
)


def config_of(recipe):
    return importlib.import_module(f"configs.{recipe}").get_config()


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_is_the_published_one(recipe):
    resolved = json.loads(json.dumps(dataclasses.asdict(resolve(config_of(f"pretrain.{recipe}")))))
    assert resolved == json.loads((GOLDEN / f"{recipe}.json").read_text())


PARAMETERS = {
    "mae_vit_b16": "111,907,840",
    "mae_vit_l16": "329,541,888",
    "mae_vit_h14": "657,074,508",
    "lut_vit_s16": "53,886,080",
    "lut_vit_b16": "124,507,136",
    "lut_vit_l16": "346,335,488",
    "simmim_vit_b16": "86,256,720",
    "simmim_swin_b_100ep": "89,874,104",
    "simmim_swin_b_800ep": "89,874,104",
    "simmim_swin_l": "199,881,204",
    "simmim_swinv2_b": "90,042,744",
    "simmim_swinv2_l": "199,924,788",
}


@pytest.mark.parametrize("recipe", [*(f"pretrain.{name}" for name in RECIPES), *SMALL])
def test_every_recipe_dry_runs(recipe, tmp_path, capsys):
    config = config_of(recipe)
    config.run.dry_run = True
    config.data.train_examples = config.data.train_examples or 2_400  # the small ones take what is there
    pretrain.run(resolve(config), tmp_path / "run")
    text = capsys.readouterr().out
    assert re.search(rf"total +{PARAMETERS.get(recipe.removeprefix('pretrain.'), '[0-9,]+')}\n", text)
    assert "steps" in text and "GFLOP" in text and "in all (estimate)" in text
    assert not (tmp_path / "run").exists()


def test_every_published_recipe_has_its_parameter_count():
    assert sorted(PARAMETERS) == RECIPES


@pytest.mark.parametrize(
    "recipe, rates",
    [
        # by update: SimMIM's first two are alike, its warm-up ends at the peak, its cosine counts from the start
        ("simmim_swin_b_100ep", {0: 4e-6, 1: 4e-6, 6251: 7.811e-4, 62500: 4e-5}),
        ("simmim_swin_b_800ep", {0: 2e-6, 6251: 4e-4, 437_500: 4e-4, 437_501: 4e-5}),
        ("simmim_vit_b16", {0: 2e-6, 6251: 4e-4, 437_501: 4e-5}),
        ("mae_vit_b16", {0: 0.0, 12_480: 2.4e-3, 499_200: 0.0}),
        ("lut_vit_b16", {0: 0.0, 12_480: 2.4e-3, 499_200: 0.0}),
    ],
)
def test_learning_rates_are_the_published_ones(recipe, rates):
    settings = resolve(config_of(f"pretrain.{recipe}"))
    schedule = make_schedule(settings, settings.data.train_examples)
    for step, rate in rates.items():
        assert float(schedule.learning_rate(step)) == pytest.approx(rate, rel=1e-3, abs=1e-9), step


def test_dry_run_tells_parameters_work_and_memory(tmp_path, capsys):
    config = config_of("pretrain.mae_vit_b16")
    config.run.dry_run = True
    config.data.train_examples = config.data.train_examples or 2_400  # the small ones take what is there
    pretrain.run(resolve(config), tmp_path / "run")
    text = capsys.readouterr().out
    assert '"norm_pix_loss": true' in text and "111,907,840" in text
    assert "499,200 steps = 1600 epochs of 312 steps of 4,096 images; warm-up 12,480 steps" in text
    assert "peak learning rate 2.400e-03" in text and "58.1" in text and "activations" in text
    assert not (tmp_path / "run").exists()


def test_dry_run_divides_over_devices_that_are_not_here(tmp_path, capsys):
    config = config_of("pretrain.mae_vit_l16")
    config.run.dry_run = True
    config.efficiency.mesh_data, config.efficiency.mesh_fsdp, config.efficiency.mesh_tensor = 32, 4, 2
    pretrain.run(resolve(config), tmp_path / "run")
    text = capsys.readouterr().out
    assert "mesh data 32 x fsdp 4 x tensor 2" in text and "activations of 32 images" in text
    assert re.search(r"24x1024x3x16x64 +75,497,472  \(-, fsdp, -, tensor, -\)", text)
