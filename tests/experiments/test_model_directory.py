"""The workdir of a run is a model directory."""

import json

import numpy as np
import pytest

import mim_jax
from mim_jax.experiments import pretrain
from mim_jax.weights.exporting import export_arrays
from tests.experiments.runs import tiny_settings


@pytest.mark.parametrize("method", ["mae", "simmim"])
def test_trained_run_is_loaded_with_its_method_and_written_for_others(method, tmp_path):
    options = {"model__options": {"mask_token": True}, "method__mask_patch": 2, "method__masking": "coarse"}
    settings = tiny_settings(method__name=method, **(options if method == "simmim" else {}))
    pretrain.run(settings, tmp_path / "run")
    model = mim_jax.load(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "model.json").read_text())["method"]["name"] == method
    assert model.parameters.keys() == {"encoder", "decoder"} and model.name == settings.model.name
    assert np.isfinite(model.encode(model.normalise(np.zeros((1, 8, 8, 1), np.uint8))).tokens).all()
    names = export_arrays(model)
    assert ("decoder_pred.weight" if method == "mae" else "decoder.0.weight") in names


def test_workdir_without_checkpoints_is_refused(tmp_path):
    pretrain.run(tiny_settings(), tmp_path / "run")
    (tmp_path / "run" / "checkpoints").rename(tmp_path / "elsewhere")
    with pytest.raises(mim_jax.InputError, match="There is no checkpoint"):
        mim_jax.load(tmp_path / "run")
    (tmp_path / "elsewhere").rename(tmp_path / "run" / "checkpoints")
    with pytest.raises(mim_jax.InputError, match="needs no options"):
        mim_jax.load(tmp_path / "run", select="student")
