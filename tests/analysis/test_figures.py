"""What the figures draw."""

import io
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from PIL import Image

from mim_jax.analysis.figures import attention_dots, image_panels, probe_chart, training_curves
from mim_jax.analysis.style import figure_bytes, save_figure
from mim_jax.errors import InputError
from tests.analysis.statistic_tables import mixed_table, statistic_table
from tests.analysis.tables import attention_table, probe_table

RECORDS = [{"step": step, "loss": 1 / (1 + step), "learning_rate": 1e-3 * step} for step in range(200)]
PANEL_TITLES = ("original", "masked", "reconstruction", "pasted")
DIGITS = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)


def dots(axes) -> np.ndarray:
    (points,) = [artist for artist in axes.collections if isinstance(artist, PathCollection)]
    return np.asarray(points.get_offsets())


def test_attention_has_a_dot_for_every_head_near_its_layer_and_the_mean_on_top():
    table = attention_table()
    figure = attention_dots(table, "attention_distance")
    for axes, (_, rows) in zip(figure.axes, table.groupby("encoder"), strict=True):
        np.testing.assert_array_equal(dots(axes)[:, 1], rows["value"])
        np.testing.assert_array_equal(np.rint(dots(axes)[:, 0]), rows["layer"])
        assert len(np.unique(dots(axes)[:, 0])) == len(rows)
        (mean,) = [line for line in axes.lines if line.get_label() == "mean of heads"]
        np.testing.assert_allclose(mean.get_ydata(), rows.groupby("layer")["value"].mean())


def test_attention_panels_share_one_axis_from_zero():
    figure = attention_dots(attention_table(), "attention_distance")
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert figure.axes[0].get_ylim()[0] == 0
    assert figure.axes[0].get_ylim()[1] > 138


@pytest.mark.parametrize("uniform", [116.5, {"one": 116.5, "two": 99.7}])
def test_uniform_attention_is_a_dashed_line(uniform):
    figure = attention_dots(attention_table(), "attention_distance", uniform=uniform)
    heights = []
    for axes in figure.axes:
        (line,) = [line for line in axes.lines if line.get_label() == "uniform attention"]
        assert line.is_dashed()
        heights.append(line.get_ydata()[0])
    assert heights == (list(uniform.values()) if isinstance(uniform, dict) else [uniform, uniform])


def test_uniform_attention_may_differ_between_layers():
    axes = attention_dots(attention_table(), "attention_distance", uniform={"one": [14.4, 28.9, 57.8]}).axes[0]
    (steps,) = axes.patches
    np.testing.assert_array_equal(steps.get_data().values, [14.4, 28.9, 57.8])
    np.testing.assert_array_equal(steps.get_data().edges, [0.5, 1.5, 2.5, 3.5])


def test_attention_of_patches_by_heads_is_drawn_whatever_else_the_table_has():
    table = statistic_table(("one",))
    axes = attention_dots(table, "attention_entropy").axes[0]
    wanted = table.query("statistic == 'attention_entropy' and query == 'patches'")
    np.testing.assert_array_equal(dots(axes)[:, 1], wanted["value"])
    divergence = attention_dots(table, "kl_between_heads").axes[0]
    assert len(dots(divergence)) == table.query("statistic == 'kl_between_heads'")["head"].notna().sum()


def test_heads_of_a_layer_with_few_are_spread_as_wide_as_those_with_many():
    places = dots(attention_dots(mixed_table({"swin": (4, 16)}), "attention_distance").axes[0])[:, 0]
    few, many = (np.ptp(places[np.rint(places) == layer]) for layer in (1, 2))
    assert few > 0.7 * many


def test_attention_axis_names_statistic_and_unit():
    assert attention_dots(attention_table(), "attention_distance").axes[0].get_ylabel() == "attention distance (px)"


def test_every_tenth_encoder_still_gets_a_panel():
    names = tuple(f"encoder {number}" for number in range(10))
    figure = attention_dots(attention_table(names), "attention_distance")
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == list(names)


def test_unknown_statistic_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"no statistic 'entropy' .*\['attention_distance'\]"):
        attention_dots(attention_table(), "entropy")


def test_curves_draw_every_record_and_a_running_mean():
    figure = training_curves(RECORDS)
    raw, smooth = figure.axes[0].lines
    np.testing.assert_allclose(raw.get_ydata(), [record["loss"] for record in RECORDS])
    assert np.abs(np.diff(smooth.get_ydata())).max() < np.abs(np.diff(raw.get_ydata())).max()
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [1e-3 * step for step in range(200)])


def test_curves_leave_out_records_without_the_metric_and_gaps_where_it_is_missing():
    records = [{"step": 0, "loss": 1.0}, {"step": 1, "loss": None}, {"step": 2, "accuracy": 0.5}]
    figure = training_curves(records)
    assert len(figure.axes) == 1
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [1.0, np.nan])


def test_several_losses_have_a_legend():
    records = [record | {"patch_loss": 2.0} for record in RECORDS]
    legend = training_curves(records, losses=("loss", "patch_loss", "absent")).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["loss", "patch loss"]


def test_records_without_any_loss_are_refused():
    with pytest.raises(InputError, match="no metrics record has any of"):
        training_curves([{"step": 1, "accuracy": 1.0}])


def test_reconstructions_have_titles_and_a_caption():
    figure = image_panels(np.stack([DIGITS] * 4, axis=1), PANEL_TITLES, "step 2500")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["original", "masked", "reconstruction", "pasted"] + [""] * 4
    assert figure.get_supxlabel() == "step 2500"


def test_small_images_are_enlarged_pixel_by_pixel():
    """Interpolation would add grey levels that the image does not have."""
    figure = image_panels(np.stack([DIGITS] * 4, axis=1), PANEL_TITLES, "step 0")
    picture = np.asarray(Image.open(io.BytesIO(figure_bytes(figure, "png"))).convert("L"))
    box = figure.axes[0].get_window_extent().extents * 200 / figure.dpi
    left, bottom, right, top = np.rint(box).astype(int)
    panel = picture[-top + 4 : -bottom - 4, left + 4 : right - 4]
    assert min(panel.shape) > 200
    assert set(np.unique(panel)) <= set(np.unique(DIGITS[0]))


def test_colour_images_keep_their_colours():
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 200
    figure = image_panels(np.stack([red] * 4, axis=1), PANEL_TITLES, "step 0")
    picture = np.asarray(Image.open(io.BytesIO(figure_bytes(figure, "png"))).convert("RGB"))
    assert (picture == [200, 0, 0]).all(-1).mean() > 0.5


def test_probe_chart_has_a_panel_for_every_protocol_and_bars_for_all_labels():
    table = probe_table()
    figure = probe_chart(table)
    assert [axes.get_title() for axes in figure.axes] == ["k-NN, few labels", "logistic, few labels", "all labels"]
    whole = table[table["labels_per_class"].isna()]
    heights = sorted(bar.get_height() for bar in figure.axes[-1].patches)
    np.testing.assert_allclose(heights, sorted(100 * whole["accuracy"]))


def test_few_label_lines_have_the_means_and_deviations():
    axes = probe_chart(probe_table()).axes[0]
    lines, _, (bars,) = axes.containers[0]
    np.testing.assert_allclose(lines.get_ydata().astype(float), [11.0, 15.0])
    ends = np.asarray([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, [[9.0, 13.0], [13.0, 17.0]])


def test_probe_chart_without_few_labels_has_only_bars():
    table = probe_table()
    figure = probe_chart(table[table["labels_per_class"].isna()])
    assert [axes.get_title() for axes in figure.axes] == ["all labels"]


def test_probe_chart_of_nothing_is_refused():
    with pytest.raises(InputError, match="no probe results"):
        probe_chart(probe_table().iloc[:0])


FIGURES = {
    "attention": lambda: attention_dots(attention_table(), "attention_distance", uniform=116.5),
    "curves": lambda: training_curves(RECORDS),
    "panels": lambda: image_panels(np.stack([DIGITS] * 4, axis=1), PANEL_TITLES, "step 0"),
    "probes": lambda: probe_chart(probe_table()),
}


@pytest.mark.parametrize("name", FIGURES)
def test_saved_files_are_the_same_every_time_and_whatever_the_users_settings(name: str, tmp_path):
    first = [path.read_bytes() for path in save_figure(FIGURES[name](), tmp_path / "a", name)]
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        second = [path.read_bytes() for path in save_figure(FIGURES[name](), tmp_path / "b", name)]
    assert first == second
    assert first[0].startswith(b"\x89PNG") and b"<svg" in first[1]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [f"{name}.png", f"{name}.svg"]


def test_figures_do_not_load_pyplot():
    code = "import sys, mim_jax.analysis.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_user_settings_are_left_alone():
    before = dict(matplotlib.rcParams)
    probe_chart(probe_table())
    assert dict(matplotlib.rcParams) == before


def test_single_encoder_and_head_can_be_drawn():
    table = attention_table(("one",), layers=1, heads=1)
    table[["ci95_low", "ci95_high"]] = np.nan
    assert len(dots(attention_dots(pd.DataFrame(table), "attention_distance").axes[0])) == 1
