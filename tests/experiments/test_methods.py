"""Every method runs from a configuration to a report, and goes on exactly where it was stopped."""

import importlib
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mim_jax.errors import InputError
from mim_jax.experiments import pretrain
from mim_jax.experiments.settings import resolve
from tests.experiments.runs import losses, metrics, tiny_settings

SMALLER = {
    "optimization.batch_size": 8,
    "optimization.epochs": 2.0,
    "data.train_examples": 16,
    "evaluation.attention_images": 8,
    "evaluation.batch_size": 8,
    "evaluation.shots": (1,),
    "evaluation.draws": 2,
    "evaluation.train_images": 0,
    "run.log_every": 1,
    "run.checkpoint_every": 2,
    "run.keep_last": 4,
    "run.panel_every": 4,
    "run.panel_images": 2,
    "run.tensorboard": False,
    "efficiency.loader_threads": 1,
    "method.decoder_width": 8,
    "method.lut.head_width": 16,
    "method.supervised.num_classes": 2,
}
ENCODER = {"vit": {"width": 16, "depth": 2, "num_heads": 2}, "swin": {"width": 8, "depths": (2, 1)}}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for part, each in (("train", 8), ("test", 4)):
        for kind in ("dark", "light"):
            (folder / part / kind).mkdir(parents=True)
            for i in range(each):
                pixels = generator.integers(0, 128, (32, 32, 3)) + 127 * (kind == "light")
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / kind / f"{i}.png")
    return folder


def settings(name, pictures, **changes):
    config = importlib.import_module(f"configs.cifar10.{name}").get_config()
    config.data.source = str(pictures)
    config.model.update(ENCODER["swin" if "swin" in name else "vit"])
    for key, value in (SMALLER | {key.replace("__", "."): value for key, value in changes.items()}).items():
        *groups, last = key.split(".")
        node = config
        for group in groups:
            node = node[group]
        node[last] = value
    return resolve(config)


@pytest.mark.parametrize("name", ["lut", "simmim_vit", "simmim_swin", "simmim_swinv2", "supervised"])
def test_method_runs_to_its_report_and_goes_on_exactly(name, pictures, tmp_path):
    workdir = tmp_path / "run"
    pretrain.run(settings(name, pictures), workdir)
    whole = losses(workdir)
    assert sorted(whole) == [1, 2, 3, 4] and np.isfinite(list(whole.values())).all()
    for file in ("report.html", "probes.csv", "attention.csv", "model.json", "figures/panels_00000004.png"):
        assert (workdir / file).stat().st_size > 0
    layers = pd.read_csv(workdir / "attention.csv")["layer"].max()
    assert layers == (3 if "swin" in name else 2)
    shutil.rmtree(workdir / "checkpoints" / "4")
    (workdir / "metrics.jsonl").rename(tmp_path / "before.jsonl")
    pretrain.run(settings(name, pictures), workdir)
    assert sorted(losses(workdir)) == [3, 4]
    assert losses(workdir) == {step: whole[step] for step in (3, 4)}


def test_lut_reports_both_losses(pictures, tmp_path):
    changes = {"evaluation__probe": False, "evaluation__attention": False, "run__panel_every": 0}
    pretrain.run(settings("lut", pictures, **changes, optimization__epochs=0.5), tmp_path / "run")
    record = metrics(tmp_path / "run")[0]
    parts = record["train/reconstruction_loss"] + 0.25 * record["train/contextualization_loss"]
    assert record["train/loss"] == pytest.approx(parts, rel=1e-5)


@pytest.mark.parametrize(
    "name, changes, sentence",
    [
        (
            "simmim_vit",
            {"model__name": "swin_tiny_patch4_window7"},
            "config.model.depth is 2, but it is read only where",
        ),
        ("simmim_swin", {"method__name": "mae"}, "MAE leaves patches out, which needs a Vision Transformer"),
        ("simmim_vit", {"method__mask_patch": 6}, "mask patch of 6 pixels is no multiple of the"),
        ("simmim_vit", {"method__mask_patch": 12}, "image size 32x32 is no multiple of the mask patch of 12 pixels"),
        ("simmim_swin", {"model__window": 7}, "windows of 7x7 do not divide"),
        ("simmim_swin", {"model__image_size": (32, 40), "model__window": 12}, "do not divide"),
        ("simmim_vit", {"model__name": "simmin_vit_tiny_patch16"}, "did you mean 'simmim_vit_tiny_patch16'"),
        ("simmim_vit", {"model__options": {"layer_scal": 0.1}}, "no field 'layer_scal'; did you mean 'layer_scale'"),
        ("simmim_vit", {"method__target_window": 8}, "the window of the target must be odd, not 8"),
        ("mae", {"method__masking": "grid", "method__mask_ratio": 0.6}, "choose 0.75 or 0.5"),
        ("mae", {"data__transform": "lut_two_views"}, "the method 'mae' wants one view"),
        ("lut", {"data__transform": "mae_pretrain"}, "the method 'lut' wants two views of every image"),
        ("lut", {"method__mask_ratio": 0.3}, "0.3"),
        ("supervised", {"method__supervised__num_classes": 3}, "has 2 classes, but .*num_classes is 3; set it to 2"),
        ("supervised", {"method__supervised__readout": "distilled"}, "needs 2 prefix tokens"),
        ("supervised", {"optimization__schedule": "cosin"}, "it must be one of half_cosine"),
    ],
)
def test_combination_that_does_not_fit_is_one_sentence(name, changes, sentence, pictures, tmp_path):
    with pytest.raises(InputError, match=sentence) as error:
        pretrain.run(settings(name, pictures, **changes), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_statistics_are_logged_while_a_run_learns(tmp_path):
    changes = {"evaluation__statistics_every": 6, "evaluation__attention_images": 40}
    pretrain.run(tiny_settings(**changes), tmp_path)
    rows = [row for row in metrics(tmp_path) if "representation/rankme" in row]
    assert [row["step"] for row in rows] == [6, 11]
    for name in ("attention_distance", "attention_entropy", "kl_between_heads"):
        assert rows[0][f"attention/{name}/layer_01"] > 0 and f"attention/{name}/layer_02" in rows[1]
    assert 1 <= rows[0]["representation/rankme"] <= 16
