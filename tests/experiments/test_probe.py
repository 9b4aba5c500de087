"""Probing from end to end: on digits, small, resumed, on several devices, and with mistakes."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest

from mim_jax.data.preprocessing import Preprocessing
from mim_jax.errors import InputError
from mim_jax.experiments import probe, probe_settings
from mim_jax.experiments.probe_settings import default_probe_config, resolve_probe
from mim_jax.models.build import initial_parameters
from mim_jax.models.presets import encoder_config
from mim_jax.probing.head import CLASSIFIERS
from mim_jax.probing.optimizers import OPTIMIZERS
from mim_jax.weights.model import Model
from mim_jax.weights.model_directory import save_model
from tests.experiments.runs import ROOT, finish, signal_after_step, start

SIZES = {"image_size": (8, 8), "patch_size": (2, 2), "channels": 1, "width": 16, "depth": 2, "num_heads": 2}


def write_encoder(folder, **changes):
    config = encoder_config("vit_tiny_patch16", **SIZES | changes)
    parameters = jax.tree.map(np.asarray, initial_parameters(config, jax.random.key(0)))
    save_model(Model(config, {"encoder": parameters}, Preprocessing((8, 8), 1, (0.5,), (0.5,))), folder)
    return str(folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("models") / "vit")


def config_for(encoder, **changes):
    config = default_probe_config()
    config.encoders = {"tiny": encoder}
    config.data.transform = config.data.evaluation_transform = "none"
    config.readings.poolings = ("cls", "mean", "abmilp")
    config.trained.optimizer, config.trained.batch_size = "adamw", 128
    config.trained.learning_rates = (0.02, 0.06)
    config.trained.epochs, config.trained.warmup_epochs = 6.0, 1.0
    config.frozen.train_images, config.frozen.shots, config.frozen.draws = 300, (2.0, 0.2), 2
    config.run.log_every, config.run.pictures = 5, 2
    for key, value in changes.items():
        *group, name = key.split("__")
        target = config[group[0]] if group else config
        target[name] = value
    return config


def run(encoder, workdir, **changes):
    return probe.run(resolve_probe(config_for(encoder, **changes)), workdir)


def losses_of(workdir):
    lines = (workdir / "encoders" / "tiny" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["train/loss"] for line in lines]


def test_every_protocol_gives_a_row_for_every_reading(encoder, tmp_path, capsys):
    table = run(encoder, tmp_path / "run", readings__layers=(1, -1))
    trained = table[table["protocol"] == "trained"]
    assert len(trained) == 6 and set(trained["layer"]) == {1, 2} and (trained["images"] == 360).all()
    assert set(trained["learning_rate"]) <= {0.01, 0.03}  # times 128 / 256
    stored = table[table["protocol"] != "trained"]
    assert set(stored["pooling"]) == {"cls", "mean"} and len(stored) == 2 * 2 * 2 * 3
    assert set(stored["labels_per_class"].dropna()) == {2, 6}  # a fifth of 300 images in ten classes
    assert (table["low"] <= table["accuracy"]).all() and (table["accuracy"] <= table["high"]).all()
    assert trained["accuracy"].min() > 0.3
    written = pd.read_csv(tmp_path / "run" / "probes.csv")
    np.testing.assert_allclose(written["accuracy"], table["accuracy"])
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert "abmilp" in capsys.readouterr().out
    again = run(encoder, tmp_path / "run", readings__layers=(1, -1))
    assert "goes on from step 60" in capsys.readouterr().out
    np.testing.assert_array_equal(again["accuracy"], table["accuracy"])


def test_swin_and_encoders_without_class_token_are_probed_too(tmp_path):
    plain = write_encoder(tmp_path / "plain", class_token=False, position_prefix=0)
    sizes = {"image_size": (8, 8), "patch_size": (1, 1), "channels": 1, "width": 8, "depths": (1, 1)}
    swin = encoder_config("swin_tiny_patch4_window7", window=4, num_heads=(1, 2), **sizes)
    parameters = jax.tree.map(np.asarray, initial_parameters(swin, jax.random.key(0)))
    save_model(Model(swin, {"encoder": parameters}, Preprocessing((8, 8), 1, (0.5,), (0.5,))), tmp_path / "swin")
    config = config_for(plain, protocols=("trained",), trained__epochs=1.0, trained__warmup_epochs=0.0)
    config.encoders = {"plain": plain, "swin": str(tmp_path / "swin"), "random": f"random:{plain}"}
    config.readings.poolings, config.readings.layers = ("mean", "ep(queries=2)"), (1, 2)
    config.readings.final_norm = (False, True)
    table = probe.run(resolve_probe(config), tmp_path / "run")
    assert table["encoder"].value_counts().to_dict() == {"plain": 8, "swin": 6, "random": 8}


def test_stored_features_train_the_same_heads_as_encoded_ones(encoder, tmp_path):
    options = {"protocols": ("trained",), "readings__poolings": ("cls", "mean"), "trained__augment": False}
    stored = run(encoder, tmp_path / "stored", **options)
    mixed = run(encoder, tmp_path / "mixed", **options | {"readings__poolings": ("cls", "mean", "ep(queries=2)")})
    mixed = mixed[mixed["pooling"].isin(("cls", "mean"))]
    np.testing.assert_allclose(stored["accuracy"], mixed["accuracy"], atol=1 / 360)
    assert list((tmp_path / "stored" / "encoders" / "tiny" / "features").iterdir())


def test_oracle_tells_another_encoder_where_to_look(encoder, tmp_path):
    options = {
        "protocols": ("k-NN",), "readings__poolings": ("oracle", "attn-mn"), "readings__oracle": encoder,
    }  # fmt: skip
    table = run(encoder, tmp_path / "run", **options).set_index("pooling")["accuracy"]
    assert np.isfinite(table).all()
    plain = write_encoder(tmp_path / "coarse", patch_size=(4, 4))
    with pytest.raises(InputError, match="the oracle sees images"):
        run(encoder, tmp_path / "other", **options | {"readings__oracle": plain})


def test_mistakes_of_originals_can_be_repeated(encoder, tmp_path):
    options = {"protocols": ("trained",), "readings__poolings": ("mean",), "trained__learning_rates": (0.02,)}
    ours = run(encoder, tmp_path / "ours", **options)
    drop = run(encoder, tmp_path / "drop", **options, trained__compat_drop_path=0.5)
    parts = run(encoder, tmp_path / "parts", **options, trained__compat_batch_norm_groups=8)
    losses = [losses_of(tmp_path / name) for name in ("ours", "drop", "parts")]
    assert losses[0] != losses[1] and losses[0] != losses[2]
    assert len(ours) == len(drop) == len(parts) == 1


def command(encoder, workdir):
    changes = {"data.transform": "none", "data.evaluation_transform": "none", "trained.batch_size": 64}
    changes |= {"trained.epochs": 1.0, "trained.warmup_epochs": 0.2, "run.log_every": 1, "run.checkpoint_every": 4}
    changes |= {"protocols": "('trained',)", "readings.poolings": "('mean','ep(queries=2)')", "run.pictures": 0}
    flags = [f"--config.{key}={value}" for key, value in changes.items()]
    return [
        sys.executable, "main.py", "--config=configs/probe/poolings.py", f"--workdir={workdir}",
        f"--encoder=tiny={encoder}", *flags,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_run_goes_on_to_the_same_table(encoder, tmp_path, number):
    whole = finish(command(encoder, tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    process = start(command(encoder, tmp_path / "killed"))
    signal_after_step(process, tmp_path / "killed" / "encoders" / "tiny", 6, number)
    process.communicate()
    assert process.returncode == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    done = finish(command(encoder, tmp_path / "killed"))
    assert done.returncode == 0, done.stderr
    assert "goes on from step" in done.stdout or number == signal.SIGKILL
    tables = [pd.read_csv(tmp_path / name / "probes.csv").drop(columns="seconds") for name in ("whole", "killed")]
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.slow
def test_eight_devices_give_the_table_of_one(encoder, tmp_path):
    tables = []
    for devices in (1, 8):
        flags = os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={devices}"
        environment = os.environ | {"XLA_FLAGS": flags}
        workdir = tmp_path / str(devices)
        done = subprocess.run(
            command(encoder, workdir), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        tables.append((pd.read_csv(workdir / "probes.csv"), losses_of(workdir)))
    (one, first), (eight, second) = tables
    np.testing.assert_allclose(first, second, rtol=1e-4)
    assert (one["images"] == 360).all() and (eight["images"] == 360).all()
    assert np.abs(one["accuracy"] - eight["accuracy"]).max() <= 1 / 360


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"readings__layers": (7,)}, "encoder 'tiny': there is no block 7; this encoder has 2"),
        ({"readings__poolings": ("meen",)}, "did you mean 'mean'"),
        ({"readings__poolings": ("oracle",)}, "oracle"),
        ({"encoders": {}}, "no encoder to probe"),
        ({"encoders": {"x": "/nowhere"}}, "encoder 'x'"),
        ({"protocols": ("kNN",)}, "unknown protocol 'kNN'; known are trained, k-NN, logistic"),
        ({"protocols": ("k-NN",), "readings__poolings": ("abmilp",)}, "no pooling fits the protocols"),
        ({"protocols": ("k-NN",), "frozen__neighbours": (2000,)}, "2000 neighbours exceed the 300 training images"),
        ({"protocols": ("k-NN",), "frozen__shots": (500.0,)}, "fewer than 500 shots"),
        ({"trained__epochs": 0.01, "trained__warmup_epochs": 0.0}, "has no step"),
        (
            {"trained__optimizer": "adam"},
            "config.trained.optimizer is 'adam'; it must be one of lars, sgd, adamw (did you",
        ),
        ({"data__source": "/nowhere"}, "/nowhere"),
        ({"readings__final_norm": ()}, "config.readings needs"),
    ],
)
def test_mistakes_end_in_one_sentence(changes, message, encoder, tmp_path):
    with pytest.raises(InputError) as error:
        run(encoder, tmp_path / "run", **changes)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_class_token_and_final_norm_are_asked_of_encoders_that_have_them(tmp_path):
    plain = write_encoder(tmp_path / "plain", class_token=False, position_prefix=0, final_norm=False)
    with pytest.raises(InputError, match="encoder 'tiny': this encoder has no class token"):
        run(plain, tmp_path / "one", protocols=("k-NN",))
    with pytest.raises(InputError, match="no final norm"):
        run(plain, tmp_path / "two", readings__final_norm=(True,), readings__poolings=("mean",))


def test_settings_that_decide_the_training_may_not_change(encoder, tmp_path):
    run(encoder, tmp_path / "run", protocols=("k-NN",), readings__poolings=("mean",))
    with pytest.raises(InputError, match="trained.epochs"):
        run(encoder, tmp_path / "run", protocols=("k-NN",), readings__poolings=("mean",), trained__epochs=9.0)


@pytest.mark.parametrize(
    "name", ["poolings", "layers", "mae", "mae:abmilp", "simmim", "dinov2_grid", "cifar10", "imagenette"]
)
def test_recipes_resolve(name):
    import importlib

    file, _, argument = name.partition(":")
    config = importlib.import_module(f"configs.probe.{file}").get_config(*([argument] if argument else []))
    config.encoders = {"any": "model"}
    settings = resolve_probe(config)
    assert dataclasses.asdict(settings)["experiment"] == "probe"
    if file == "mae":
        trained = settings.trained
        assert (trained.batch_size, trained.epochs, trained.learning_rates) == (16384, 90.0, (0.1,))


def test_settings_know_the_optimizers_and_starts_that_there_are():
    assert set(probe_settings.OPTIMIZERS) == set(OPTIMIZERS)
    assert set(probe_settings.STARTS) == set(CLASSIFIERS)


def test_stored_features_are_of_all_training_images_whatever_is_held_out(encoder, tmp_path):
    options = {"protocols": ("k-NN",), "readings__poolings": ("mean",), "frozen__train_images": 0, "frozen__shots": ()}
    one = run(encoder, tmp_path / "one", **options, trained__learning_rates=(0.02,))
    several = run(encoder, tmp_path / "several", **options)
    assert one["accuracy"].item() == several["accuracy"].item()
