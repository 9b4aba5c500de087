"""Analysis from end to end: on digits, small, stopped and resumed, in parts, on several devices, and with mistakes."""

import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import mim_jax
from mim_jax.analysis.tables import COLUMNS
from mim_jax.data.sources import open_source
from mim_jax.errors import InputError
from mim_jax.experiments import analyze
from mim_jax.experiments.analyze_settings import default_analyze_config, resolve_analyze
from mim_jax.training.interruption import Interruption
from mim_jax.training.loop import Interrupted
from tests.experiments.encoders import tiny_model, write_encoder
from tests.experiments.runs import ROOT, finish, start

NUMBERS = ["value", "standard_error", "ci95_low", "ci95_high"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("models") / "vit")


def config_for(encoder, **changes):
    config = default_analyze_config()
    config.encoders = {"tiny": encoder}
    config.data.evaluation_transform = "none"
    config.statistics.images, config.statistics.spectra_images = 100, 8
    config.run.pictures, config.run.report = 0, False
    for key, value in changes.items():
        *group, name = key.split("__")
        (config[group[0]] if group else config)[name] = value
    return config


def run(encoder, workdir, **changes):
    return analyze.run(resolve_analyze(config_for(encoder, **changes)), workdir)


def same_numbers(one, other, **tolerance):
    keys = ["encoder", "layer", "head", "query", "statistic", "n"]
    pd.testing.assert_frame_equal(one[keys], other[keys])
    np.testing.assert_allclose(one[NUMBERS], other[NUMBERS], **tolerance)


@pytest.fixture(scope="module")
def whole(encoder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    swin = write_encoder(workdir.parent / "swin", "swin_tiny_patch4_window7")
    config = config_for(encoder, run__pictures=2, run__report=True, statistics__compat=True)
    config.encoders = {"tiny": encoder, "swin": swin, "random": f"random:{encoder}"}
    config.representations.samples = ("class", "pooled", "flattened")
    config.representations.across = False
    config.representations.token_images, config.representations.lidar_images = 40, 6
    config.data.transform = "mae_pretrain"
    return analyze.run(resolve_analyze(config), workdir), workdir


def test_tables_figures_and_report_are_written(whole, capsys):
    analysis, workdir = whole
    table = analysis.table
    assert tuple(table.columns) == COLUMNS and set(table["encoder"]) == {"tiny", "swin", "random"}
    csv, parquet = pd.read_csv(workdir / "statistics.csv"), pd.read_parquet(workdir / "statistics.parquet")
    pd.testing.assert_frame_equal(parquet, table)
    np.testing.assert_allclose(csv["value"], table["value"])
    counts = table[table["statistic"] == "attention_distance"]["n"].unique()
    assert list(counts) == [100] and set(table[table["statistic"] == "top_singular_share"]["n"]) == {8}
    assert set(table[table["statistic"] == "lidar"]["n"]) == {6}
    names = {path.stem for path in (workdir / "figures").glob("*.png")}
    assert names == {path.stem for path in (workdir / "figures").glob("*.svg")}
    assert names >= {
        "attention_distance", "attention_entropy", "kl_between_heads", "class_and_patches", "depth_curves",
        "heads_sorted", "aligned_tiny", "norm_histograms", "cka_pooled", "cka_flattened", "cka_class",
        "spectra_pooled", "embedding_tiny", "attention_tiny_0", "rollout_tiny", "norms_swin", "offsets",
    }  # fmt: skip
    assert "rollout_swin" not in names
    page = (workdir / "report.html").read_text()
    assert page.count("data:image") == len(names) and "http" not in page.replace("http-equiv", "").replace("www.w3", "")


def test_matrices_compare_layers(whole):
    analysis, workdir = whole
    with np.load(workdir / "similarity.npz") as stored:
        assert stored["cka_pooled/tiny/tiny"].shape == (3, 3) and stored["neighbours_pooled/swin/swin"].shape == (3, 3)
        np.testing.assert_allclose(np.diag(stored["cka_flattened/tiny/tiny"]), 1, atol=1e-4)
        np.testing.assert_allclose(np.diag(stored["neighbours_pooled/tiny/tiny"]), 1)
    with np.load(workdir / "arrays_tiny.npz") as stored:
        assert stored["aligned_attention/1"].shape == (2, 7, 7)
    assert analysis.features["tiny"]["pooled"][2].shape == (100, 16)


def test_encoders_side_by_side_are_compared_across(encoder, tmp_path):
    config = config_for(encoder, statistics__names=("attention_distance",))
    config.representations.samples, config.representations.token_images = ("pooled", "tokens"), 40
    config.encoders = {"a": encoder, "b": write_encoder(tmp_path / "b", seed=1)}
    found = analyze.run(resolve_analyze(config), tmp_path / "run")
    assert set(found.cka("pooled")) == {("a", "a"), ("a", "b"), ("b", "b")}
    ranks = {"rankme", "rankme_centered", "effective_rank", "participation_ratio", "alpha_req"}
    assert set(found.table["statistic"]) - ranks == {"attention_distance"}
    for matrix in found.token_cka["tokens"].values():
        assert matrix.shape == (3, 3) and np.isfinite(matrix).all()
    np.testing.assert_allclose(np.diag(found.token_cka["tokens"]["a", "a"]), 1, atol=1e-4)


def test_stopped_analysis_goes_on_to_the_same_numbers(encoder, tmp_path, monkeypatch):
    straight = run(encoder, tmp_path / "straight", run__batch_size=16)
    with monkeypatch.context() as patched:
        patched.setattr(Interruption, "requested", lambda self, step: step == 3)
        with pytest.raises(Interrupted, match="after batch 3 of 7 of 'tiny'; it is saved"):
            run(encoder, tmp_path / "stopped", run__batch_size=16)
    seen = []
    batches = analyze.StatisticsPass._batches

    def watched(self, source, first):
        seen.append(first)
        return batches(self, source, first)

    monkeypatch.setattr(analyze.StatisticsPass, "_batches", watched)
    resumed = run(encoder, tmp_path / "stopped", run__batch_size=16)
    assert seen[0] == 3
    pd.testing.assert_frame_equal(resumed.table, straight.table)
    for ours, theirs in zip(resumed.features["tiny"]["pooled"], straight.features["tiny"]["pooled"], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    part = tmp_path / "stopped" / "encoders" / "tiny" / "features" / "000002.npz"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match="000002.npz cannot be read as arrays .* move it elsewhere, and"):
        run(encoder, tmp_path / "stopped", run__batch_size=16)
    part.unlink()
    again = run(encoder, tmp_path / "stopped", run__batch_size=16)
    pd.testing.assert_frame_equal(again.table, straight.table)


def test_parts_of_several_runs_merge_to_the_whole(encoder, tmp_path):
    straight = run(encoder, tmp_path / "straight", representations__samples=())
    options = {"representations__samples": ()}
    run(encoder, tmp_path / "a", run__part=(0, 3), **options)
    run(encoder, tmp_path / "b", run__part=(1, 3), **options)
    merge = (str(tmp_path / "a"), str(tmp_path / "b"))
    merged = run(encoder, tmp_path / "c", run__part=(2, 3), run__merge=merge, **options)
    rows = [found.table[found.table["statistic"] != "top_singular_share"] for found in (merged, straight)]
    same_numbers(*(part.reset_index(drop=True) for part in rows), rtol=2e-4, atol=1e-5)
    with pytest.raises(InputError, match="encoder 'tiny': .*sums.npz holds no sums"):
        run(encoder, tmp_path / "d", run__part=(2, 3), run__merge=(str(tmp_path / "nowhere"),), **options)


def test_analysis_ends_when_intervals_are_narrow(encoder, tmp_path):
    options = {"statistics__images": 0, "run__batch_size": 16, "statistics__names": ("attention_distance",)}
    found = run(encoder, tmp_path / "run", statistics__until=("attention_distance=0.3",), **options)
    rows = found.table[found.table["statistic"] == "attention_distance"]
    assert rows["n"].iloc[0] < 360 and ((rows["ci95_high"] - rows["ci95_low"]) / 2 <= 0.3).all()


@pytest.mark.slow
def test_eight_devices_give_the_numbers_of_one(encoder, tmp_path):
    tables = []
    for devices in (1, 8):
        flags = os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={devices}"
        done = subprocess.run(
            command(encoder, tmp_path / str(devices), "--config.run.batch_size=24"),
            cwd=ROOT,
            env=os.environ | {"XLA_FLAGS": flags},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        tables.append(pd.read_csv(tmp_path / str(devices) / "statistics.csv"))
    same_numbers(*tables, rtol=2e-4, atol=1e-4)


@pytest.mark.slow
def test_killed_analysis_goes_on(encoder, tmp_path):
    flags = ("--config.run.batch_size=2", "--config.run.checkpoint_every=5")
    process = start(command(encoder, tmp_path / "run", *flags))
    sums = tmp_path / "run" / "encoders" / "tiny" / "sums.npz"
    while not sums.exists() and process.poll() is None:
        pass
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "start the same command again" in errors
    done = finish(command(encoder, tmp_path / "run", *flags))
    assert done.returncode == 0, done.stderr
    assert "attention_distance" in done.stdout


def command(encoder, workdir, *flags):
    return [
        sys.executable, "main.py", "--config=configs/analyze.py", f"--encoder=tiny={encoder}", f"--workdir={workdir}",
        "--config.data.evaluation_transform=none", "--config.statistics.images=100", "--config.run.pictures=0",
        "--config.statistics.spectra_images=0", "--config.run.report=False", *flags,
    ]  # fmt: skip


def test_compat_prints_the_numbers_of_other_papers(encoder, tmp_path):
    done = finish(command(encoder, tmp_path / "run", "--compat", "--config.representations.samples=()"))
    assert done.returncode == 0, done.stderr
    for name in ("vit/attention_distance", "walmer/", "beyond-cls/", "mae-lite/", "cl-vs-mim/"):
        assert name in done.stdout


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"encoders": {}}, "no encoder to analyse"),
        ({"encoders": {"x": "/nowhere"}}, "encoder 'x'"),
        ({"statistics__names": ("attention_distanse",)}, "did you mean 'attention_distance'"),
        ({"statistics__queries": ("registers",)}, "encoder 'tiny': this encoder has no registers token"),
        ({"statistics__queries": ("cls",)}, "did you mean 'class'"),
        ({"statistics__images": 1}, "an interval needs two images"),
        ({"statistics__until": ("rankme=1",)}, "'rankme' has no interval"),
        ({"statistics__until": ("attention_distance=-1",)}, "no NAME=NUMBER"),
        ({"run__part": (3, 2)}, "config.run.part must be"),
        ({"run__part": (99, 100)}, "gives 1 images to this run"),
        ({"representations__samples": ("cls",)}, "did you mean 'class'"),
        ({"representations__cka": "unbiassed"}, "did you mean 'unbiased'"),
        ({"data__source": "/nowhere"}, "/nowhere"),
    ],
)
def test_mistakes_end_in_one_sentence(changes, message, encoder, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        run(encoder, tmp_path / "run", **changes)
    assert "\n" not in str(error.value)


def test_class_statistics_are_refused_of_an_encoder_without_one(tmp_path):
    plain = write_encoder(tmp_path / "plain", class_token=False, position_prefix=0)
    with pytest.raises(InputError, match="encoder 'tiny': this encoder has no class token to take statistics of"):
        run(plain, tmp_path / "run", statistics__queries=("class",))


def test_settings_that_decide_the_numbers_may_not_change(encoder, tmp_path):
    names = {"statistics__names": ("attention_entropy",), "representations__samples": ()}
    run(encoder, tmp_path / "run", **names)
    with pytest.raises(InputError, match="other settings: statistics.images"):
        run(encoder, tmp_path / "run", statistics__images=50, **names)


def test_grids_that_are_not_square_are_analysed(tmp_path):
    wide = write_encoder(tmp_path / "wide", patch_size=(4, 2))
    found = run(wide, tmp_path / "run", run__pictures=1)
    rows = found.table[(found.table["statistic"] == "attention_distance") & found.table["head"].isna()]
    assert len(rows) == 2 and (rows["value"] > 0).all()


def test_notebook_gives_table_figures_and_comparison(tmp_path):
    images = open_source("digits", "test").images[:20]
    result = mim_jax.analyze(tiny_model(), images, name="one", statistics={"spectra_images": 0})
    assert result.df["n"].max() == 20 and set(result.df["encoder"]) == {"one"}
    assert len(result.plot.attention_distance().axes) == 1
    for draw in (result.plot.kl_between_heads, result.plot.token_norm, result.plot.cka, result.plot.spectra):
        assert draw().axes
    assert repr(result).splitlines()[0] == "Analysis of one" and "pictures of 3 images" in repr(result)
    assert len(repr(result).splitlines()) == 4 and max(map(len, repr(result).splitlines())) < 120
    assert len(repr(result.pictures["one"])) < 600
    pictures = [Image.fromarray(image[..., 0]).resize((12, 10)) for image in images[:3]]
    few = mim_jax.analyze(tiny_model(), pictures, labels=["cat", "dog", "cat"], name="few", pictures=0)
    assert few.labels.tolist() == ["cat", "dog", "cat"]
    assert few.report(tmp_path / "few.html").stat().st_size > 100_000
    with pytest.raises(InputError, match="10 neighbours need more than 3 images"):
        few.nearest_neighbours()
    with pytest.raises(InputError, match="CKA needs 4 images at least, not 3"):
        few.cka()
    both = result.compare(mim_jax.analyze(tiny_model(seed=1), images, name="two", pictures=0))
    assert both.encoders == ["one", "two"] and ("one", "two") in both.cka()
    assert both.report(tmp_path / "report.html").stat().st_size > 100_000
    with pytest.raises(InputError, match="did you mean 'attention_distance'"):
        result.plot.attention_distanc()
    with pytest.raises(InputError, match="an encoder called 'one'"):
        result.compare(result)


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((4, 8, 8, 1), np.float32), "pass pixels from 0 to 255 as uint8"),
        (np.zeros((1, 8, 8, 1), np.uint8), "an interval needs two"),
        ("/nowhere", "/nowhere"),
    ],
)
def test_notebook_tells_what_is_wrong_with_images(images, message):
    with pytest.raises(InputError, match=message):
        mim_jax.analyze(tiny_model(), images)


def test_labels_belong_to_the_images_that_could_be_read(encoder, tmp_path):
    colour = write_encoder(tmp_path / "colour", channels=3)
    digits = open_source("digits", "test")
    for index in range(6):
        folder = tmp_path / "images" / "test" / f"class{digits[index]['label']}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{index}.png"
        Image.fromarray(digits[index]["image"][..., 0]).save(path)
    broken = sorted((tmp_path / "images" / "test").glob("*/*.png"))[1]
    broken.write_bytes(broken.read_bytes()[:20])
    source = str(tmp_path / "images")
    found = run(colour, tmp_path / "run", data__source=source, representations__samples=("pooled",))
    assert len(found.features["tiny"]["pooled"][0]) == len(found.labels) == 5
    readable = [path.parent.name for path in sorted((tmp_path / "images" / "test").glob("*/*.png")) if path != broken]
    assert list(found.labels) == readable
    with pytest.raises(InputError, match="encoder 'tiny': images have 3 channels, but the encoder takes 1;"):
        run(encoder, tmp_path / "grey", data__source=source)
