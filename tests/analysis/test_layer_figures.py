"""What the figures over layers draw."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from mim_jax.analysis.layer_figures import fourier_spectra, layer_line_grid, layer_lines, mask_scale, singular_spectra
from mim_jax.analysis.style import COLOURS
from mim_jax.errors import InputError
from tests.analysis.statistic_tables import mixed_table, statistic_table

TABLE = statistic_table()
PANELS = [("self_attention", "class", "class token to itself"), ("update_magnitude", "patches", "update")]
SPECTRA = {"one": -np.cumsum(np.ones((3, 5)), axis=1), "two": -np.ones((3, 5))}
MASKS = pd.DataFrame(
    {"mask_distance": [1.0, 15.0, 60.0], "error": [0.2, 0.15, 0.18], "attention_distance": [40, 60, 80]}
)


def curves(axes, table) -> dict:
    return {line.get_label(): line for line in axes.lines if line.get_label() in set(table["encoder"])}


def of_layers(table, encoder: str, statistic: str, query: str) -> pd.DataFrame:
    rows = table[(table["encoder"] == encoder) & (table["statistic"] == statistic) & (table["query"] == query)]
    return rows.groupby("layer")[["value", "ci95_low", "ci95_high"]].mean()


@pytest.mark.parametrize("statistic, query", [("self_attention", "class"), ("update_magnitude", "class")])
def test_every_encoder_has_a_line_with_its_band(statistic: str, query: str):
    (axes,) = layer_lines(TABLE, statistic, query).axes
    for (encoder, line), band in zip(curves(axes, TABLE).items(), axes.collections, strict=True):
        wanted = of_layers(TABLE, encoder, statistic, query)
        np.testing.assert_allclose(line.get_xydata(), np.stack([[1, 2, 3], wanted["value"]], 1))
        box = band.get_paths()[0].get_extents()
        np.testing.assert_allclose([box.y0, box.y1], [wanted["ci95_low"].min(), wanted["ci95_high"].max()])


def test_values_of_layers_come_before_those_of_heads():
    (axes,) = layer_lines(TABLE, "kl_between_heads").axes
    own = TABLE[(TABLE["statistic"] == "kl_between_heads") & (TABLE["encoder"] == "one") & TABLE["head"].isna()]
    np.testing.assert_array_equal(curves(axes, TABLE)["one"].get_ydata(), own["value"])


def test_statistics_without_a_query_are_drawn_for_any():
    for query in ("", "patches"):
        assert len(curves(layer_lines(TABLE, "fourier_relative_log_amplitude", query).axes[0], TABLE)) == 2


def test_uniform_attention_is_dashed_for_all_or_in_the_colour_of_its_encoder():
    (axes,) = layer_lines(TABLE, "attention_entropy", reference=5.278).axes
    (line,) = [line for line in axes.lines if line.is_dashed()]
    assert line.get_ydata()[0] == 5.278 and line.get_label() == "uniform attention"
    (axes,) = layer_lines(TABLE, "attention_entropy", reference={"one": 5.2, "two": 5.5}).axes
    one, two, in_legend = [line for line in axes.lines if line.is_dashed()]
    assert (one.get_ydata()[0], two.get_ydata()[0]) == (5.2, 5.5)
    assert [to_hex(line.get_color()) for line in (one, two)] == list(COLOURS[:2])
    assert in_legend.get_label() == "uniform attention"
    (axes,) = layer_lines(TABLE, "attention_entropy", reference={"two": 5.5}).axes
    assert to_hex([line for line in axes.lines if line.is_dashed()][0].get_color()) == COLOURS[1]


def test_grid_has_a_panel_for_every_statistic_and_one_legend():
    figure = layer_line_grid(TABLE, PANELS, references={"class token to itself": 0.005})
    assert [axes.get_title() for axes in figure.axes] == [title for _, _, title in PANELS]
    assert [axes.get_ylabel() for axes in figure.axes] == ["self attention", "update magnitude"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one", "two", "uniform attention"]


def test_encoder_without_a_statistic_keeps_its_colour_for_others():
    table = TABLE[(TABLE["encoder"] == "two") | (TABLE["statistic"] != "self_attention")]
    first, second = layer_line_grid(table, PANELS).axes
    assert len(curves(first, table)["one"].get_ydata()) == 0
    assert {to_hex(curves(axes, table)["two"].get_color()) for axes in (first, second)} == {COLOURS[1]}


def test_spectra_have_a_line_for_every_layer_coloured_by_depth():
    figure = fourier_spectra(SPECTRA, first_layer=0)
    panels = figure.axes[:2]
    for axes, spectrum in zip(panels, SPECTRA.values()):
        np.testing.assert_array_equal([line.get_ydata() for line in axes.lines], spectrum)
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "π/2", "π"]
        assert len({to_hex(line.get_color()) for line in axes.lines}) == 3
    np.testing.assert_allclose(panels[0].lines[0].get_xdata(), np.linspace(0, 1, 5))
    assert figure.axes[2].get_ylabel() == "layer" and figure.axes[2].get_ylim() == (0, 2)


def test_encoders_of_different_depth_are_coloured_by_relative_depth():
    figure = fourier_spectra({"one": SPECTRA["one"], "two": SPECTRA["two"][:2]})
    assert figure.axes[2].get_ylabel() == "relative depth"
    assert figure.axes[0].lines[-1].get_color().tolist() == figure.axes[1].lines[-1].get_color().tolist()


def test_singular_values_are_relative_to_the_largest_and_rounding_is_left_out():
    axes = singular_spectra({"one": np.array([[4.0, 2.0, 1e-9]])}).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[1, 0], [2, np.log(0.5)], [3, np.nan]])


def test_masks_have_circles_for_errors_and_diamonds_for_distances():
    left, right = mask_scale(MASKS).axes
    np.testing.assert_allclose(left.collections[0].get_offsets()[:, 1], [20, 15, 18])
    np.testing.assert_allclose(right.collections[0].get_offsets()[:, 1], [40, 60, 80])
    assert left.get_xscale() == "log" and left.get_ylabel() == "● fine-tuning error (%)"
    assert mask_scale(MASKS[1:]).axes[0].get_xscale() == "linear"


def test_what_is_missing_is_named():
    with pytest.raises(InputError, match="no statistic 'rankme'"):
        layer_lines(TABLE, "rankme", "")
    with pytest.raises(InputError, match="no statistics to draw"):
        layer_line_grid(TABLE, [])
    with pytest.raises(InputError, match="no curves of layers"):
        fourier_spectra({})
    with pytest.raises(InputError, match=r"missing: \['error'\]"):
        mask_scale(MASKS.drop(columns="error"))


def test_layers_of_deep_encoders_are_ticked_at_whole_numbers():
    table = mixed_table({"deep": (2,) * 24})
    ticks = layer_lines(table, "attention_distance").axes[0].get_xticks()
    assert len(ticks) <= 12 and set(ticks) <= set(range(1, 25))
