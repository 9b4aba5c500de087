"""Every mistake of a user ends in one sentence that names it."""

import os

import numpy as np
import pytest
from PIL import Image

from mim_jax.errors import InputError
from mim_jax.experiments import pretrain
from tests.experiments.runs import command, finish, losses, metrics, tiny_settings


def refused(match, workdir, **changes):
    with pytest.raises(InputError, match=match) as caught:
        pretrain.run(tiny_settings(**changes), workdir)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "match, changes",
    [
        ("image size 8x8 is not divisible by the patch size 3x3", {"model__patch_size": (3, 3)}),
        ("config.method.mask_ratio is 1.5; it must be at least 0 and less than 1", {"method__mask_ratio": 1.5}),
        ("mask ratio 0.99 leaves none of the 16 patches visible", {"method__mask_ratio": 0.99}),
        ("unknown encoder 'vit_tny_patch16'; did you mean 'vit_tiny_patch16'", {"model__name": "vit_tny_patch16"}),
        ("width 16 is not divisible by 3 heads", {"model__num_heads": 3}),
        ("batch size 128 is not divisible by 3", {"efficiency__accumulation": 3}),
        ("mesh .* does not cover 1 devices", {"efficiency__mesh_fsdp": 2}),
        ("exceeds the 1437 training images|are not one step", {"optimization__batch_size": 2048}),
        ("config.data.train_examples is 5", {"data__train_examples": 5}),
        ("did you mean 'mae_pretrain'", {"data__transform": "mae_pretran"}),
        ("data.mean is .* one number for each of the 3 channels", {"model__channels": 3}),
        ("nosuchfolder", {"data__source": "/nosuchfolder"}),
        ("no such split|split", {"data__train_split": "nosuchsplit"}),
    ],
)
def test_wrong_settings(tmp_path, match, changes):
    refused(match, tmp_path, **changes)
    assert not (tmp_path / "checkpoints").exists()


def test_channels_that_the_images_do_not_have(tmp_path):
    three = {"model__channels": 3, "data__mean": (0.5,) * 3, "data__std": (0.5,) * 3}
    refused("images of digits have 1 channel.*config.model.channels is 3", tmp_path, **three)


def test_empty_folder(tmp_path):
    (tmp_path / "images").mkdir()
    refused("images", tmp_path / "run", data__source=str(tmp_path / "images"))


def folder_of_images(folder, *, readable):
    folder.mkdir(parents=True)
    for i in range(150):
        path = folder / f"{i:03d}.png"
        if readable:
            Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(path)
        else:
            path.write_bytes(b"no image")
    return {
        "data__source": str(folder), "model__channels": 3, "data__mean": (0.5,) * 3, "data__std": (0.5,) * 3,
    }  # fmt: skip


def test_folder_without_a_readable_image(tmp_path):
    changes = folder_of_images(tmp_path / "images", readable=False)
    refused("can be read|readable", tmp_path / "run", **changes)


def test_probing_without_labels(tmp_path):
    changes = folder_of_images(tmp_path / "images", readable=True)
    refused("no labels", tmp_path / "run", evaluation__knn_every=1, data__test_split="train", **changes)


def test_flat_folder_trains(tmp_path):
    changes = folder_of_images(tmp_path / "images", readable=True)
    pretrain.run(tiny_settings(optimization__epochs=2.0, **changes), tmp_path / "run")
    assert len(losses(tmp_path / "run")) == 2


def test_divergence_names_step_checkpoint_and_images(tmp_path):
    with pytest.raises(InputError) as caught:
        pretrain.run(
            tiny_settings(optimization__base_learning_rate=1e30, optimization__epochs=9.0, run__checkpoint_every=1),
            tmp_path,
        )
    message = str(caught.value)
    assert "training diverged at step" in message and "delete" not in message
    assert "last good checkpoint is step 1 (to go on from it, move step 2 out of" in message
    assert "the batch was images" in message and (tmp_path / "diverged_batch.json").exists()


def test_divergence_before_any_checkpoint(tmp_path):
    settings = tiny_settings(
        optimization__base_learning_rate=1e30, optimization__warmup_epochs=0.0, run__checkpoint_every=0
    )
    with pytest.raises(InputError, match="there is no checkpoint from before it"):
        pretrain.run(settings, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_workdir_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    refused("cannot write", tmp_path / "run")


def test_workdir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    refused("cannot write .*file", tmp_path / "file" / "run")


def test_command_line_prints_one_sentence_and_fails(tmp_path):
    for arguments, sentence in [
        ([*command(tmp_path), "--config.model.widht=3"], "'config.model.widht'; did you mean 'config.model.width'?"),
        (
            [*command(tmp_path)[:1], "main.py", "--config=configs/nosuch.py"],
            "No such file or directory: 'configs/nosuch.py'",
        ),
        ([*command(tmp_path)[:1], "main.py"], "no configuration given"),
        (command(tmp_path, method__mask_ratio=1.5), "config.method.mask_ratio is 1.5"),
    ]:
        done = finish(arguments)
        assert done.returncode == 2, done
        assert sentence in done.stderr and "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_corrupt_image_is_named_and_skipped_or_stops_the_run(tmp_path, caplog):
    changes = folder_of_images(tmp_path / "images", readable=True)
    (tmp_path / "images" / "007.png").write_bytes(b"no image")
    pretrain.run(tiny_settings(optimization__epochs=2.0, **changes), tmp_path / "run")
    assert "007.png" in caplog.text
    assert metrics(tmp_path / "run")[-1]["data/corrupt"] == 1
    refused("007.png", tmp_path / "stopped", data__on_corrupt="stop", **changes)


def test_folder_without_test_images_still_gets_its_report(tmp_path, capsys):
    changes = folder_of_images(tmp_path / "images", readable=True)
    pretrain.run(tiny_settings(evaluation__attention=True, **changes), tmp_path / "run")
    assert "training images stand in" in capsys.readouterr().out
    assert (tmp_path / "run" / "attention.csv").exists()


def test_stopped_run_whose_last_save_fails_does_not_claim_to_be_saved(tmp_path, monkeypatch):
    def full(self):
        raise InputError("checkpoint 3 could not be written: No space left on device")

    def stopped(state, training):
        monkeypatch.setattr(pretrain.Checkpoints, "wait", full)
        raise pretrain.Interrupted("stopped by SIGTERM after step 3 of 11; it is saved")

    monkeypatch.setattr(pretrain, "train", stopped)
    refused("No space left on device", tmp_path)


def test_workdir_in_a_bucket_is_refused():
    done = finish(command("gs://bucket/run"))
    assert done.returncode == 2 and "no local folder" in done.stderr
