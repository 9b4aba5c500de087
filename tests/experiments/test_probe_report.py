"""The report of a probing run."""

import base64
import dataclasses
import html
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mim_jax.analysis.probe_figures import PoolingPictures
from mim_jax.experiments.probe_report import write_probe_report
from mim_jax.experiments.probe_settings import Frozen, ProbeSettings, Trained
from tests.analysis.test_probe_figures import probing_table

SETTINGS = ProbeSettings(encoders={"MAE": "runs/mae", "DINO": "dino.pth"})
TABLE = probing_table()
PICTURES = PoolingPictures(np.full((1, 4, 4, 3), 0.5, np.float32), {"abmilp": np.ones((1, 2, 2), np.float32)})


def sections(page: str) -> dict[str, str]:
    """Parts of the page by heading, without tags."""
    parts = re.findall(r"<h2>(.*?)</h2>(.*?)</section>", page, flags=re.DOTALL)
    return {title: html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r'src="[^"]*"', "", text))) for title, text in parts}


def report(folder: Path, table: pd.DataFrame, settings: ProbeSettings = SETTINGS, pictures=None) -> str:
    path = write_probe_report(settings, folder, table, pictures or {})
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def one_row(protocol: str) -> pd.DataFrame:
    """One encoder, layer and pooling."""
    return probing_table(("MAE",), 1, ("mean",)).head(1).assign(protocol=protocol)


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> tuple[Path, str]:
    """Folder and page of a run with everything in it."""
    folder = tmp_path_factory.mktemp("run")
    return folder, report(folder, TABLE, pictures={"MAE": PICTURES})


def test_report_has_a_section_for_every_protocol_and_every_figure_in_two_formats(full):
    folder, page = full
    assert list(sections(page)) == [
        "Results", "Trained heads", "Nearest neighbours", "Where poolings look", "All numbers", "Settings",
    ]  # fmt: skip
    names = ["labels_k-NN", "layers_k-NN", "layers_trained", "pictures_MAE", "poolings_k-NN", "poolings_trained"]
    files = sorted(path.name for path in (folder / "figures").iterdir())
    assert files == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]


def test_report_loads_nothing_and_holds_the_saved_figures(full):
    folder, page = full
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 6 and all(source.startswith("data:image/") for source in sources)
    embedded = {base64.b64decode(source.split(",")[1]) for source in sources}
    assert (folder / "figures" / "layers_trained.svg").read_bytes() in embedded
    assert sum(picture.startswith(b"\x89PNG") for picture in embedded) == 1


def test_results_are_percentages_at_the_last_block_with_encoders_across(full):
    text = " ".join(sections(full[1])["Results"].split())
    assert text.startswith("protocol pooling MAE DINO trained cls 30.0 31.0 trained mean 32.0 33.0")
    assert "k-NN mean 32.0 33.0 Accuracy in percent at the last block" in text


def test_summary_names_the_best_pooling_of_every_encoder(full):
    summary = "(trained heads): MAE 34.0% by abmilp(depth=2); DINO 35.0% by abmilp(depth=2)."
    assert summary in full[1]


def test_every_row_and_the_settings_are_in_the_report(full):
    rows = full[1].split("<h2>All numbers</h2>")[1].split("</table>")[0].count("<tr>")
    assert rows == 1 + len(TABLE)
    assert '"DINO": "dino.pth"' in sections(full[1])["Settings"]


def test_text_says_what_chose_the_rates(tmp_path):
    one = sections(report(tmp_path, one_row("trained")))["Trained heads"]
    assert "nothing to choose" in one and "500 test images" in one and "95% Wilson" in one
    several = dataclasses.replace(SETTINGS, trained=Trained(learning_rates=(0.1, 1.0), held_out=0.2))
    text = sections(report(tmp_path, one_row("trained"), several))["Trained heads"]
    assert "20% of the training images, held out" in text and "test images took part in no choice" in text


def test_text_says_which_neighbours_are_drawn(full, tmp_path):
    assert "the first number" not in full[1]
    several = dataclasses.replace(SETTINGS, frozen=Frozen(neighbours=(5, 20)))
    text = sections(report(tmp_path, one_row("k-NN"), several))["Nearest neighbours"]
    assert "5 or 20 nearest" in text and "Figures show the first number" in text


@pytest.mark.parametrize("protocol", ["trained", "k-NN", "logistic"])
def test_one_encoder_layer_pooling_and_protocol_is_enough(tmp_path, protocol: str):
    assert len(re.findall("<img", report(tmp_path, one_row(protocol)))) == 1
    files = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert files == [f"poolings_{protocol}.png", f"poolings_{protocol}.svg"]


def test_encoders_of_different_depth_at_their_last_block_have_no_curve_over_blocks(tmp_path):
    table = pd.concat([probing_table(("MAE",), 2).query("layer == 2"), probing_table(("DINO",), 1)])
    report(tmp_path, table.query("protocol == 'trained'"))
    assert not list((tmp_path / "figures").glob("layers_*"))


def test_poolings_that_an_encoder_lacks_are_left_open(tmp_path):
    table = TABLE.query("protocol == 'trained' and layer == 3 and (encoder == 'MAE' or pooling != 'cls')")
    text = " ".join(sections(report(tmp_path, table))["Results"].split())
    assert "trained cls 30.0 – trained mean 32.0 33.0" in text
