"""Figures over the layers of encoders: curves of statistics, spectra coloured by depth, and the scale of a mask."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mim_jax.analysis.panels import (
    DASHES,
    depth_lines,
    depth_panels,
    label_left,
    layer_axis,
    plain_logarithms,
    statistic_rows,
    table_colours,
    uniform_line,
    value_label,
)
from mim_jax.analysis.probe_figures import MARKERS
from mim_jax.analysis.style import COLOURS, FAINT, legend_below, new_figure, styled
from mim_jax.errors import InputError

LINES_IN_A_ROW = 4
SMALLEST_SINGULAR_VALUE = 1e-6
"""As a share of the largest; below it float32 has only rounding."""
MASK_COLUMNS = ("mask_distance", "error", "attention_distance")
LOGARITHMIC_FROM = 8
"""Ratio of the largest to the smallest scale of a mask."""

Reference = float | Mapping[str, float | Sequence[float]]
"""A value, or one for every encoder, or one for each of its layers."""


@styled
def layer_lines(
    table: pd.DataFrame, statistic: str, query: str = "patches", *, reference: Reference | None = None, title: str = ""
) -> Figure:
    """A statistic over the layers, a line with its 95 % band for every encoder.

    Where only heads have values, the mean of the heads is drawn; its band is the mean of theirs, which is never too
    narrow. `reference` is the value of uniform attention, dashed: for all, or by encoder in its colour. Form of
    Przewiezlikowski et al. 2025.

    Raises:
        InputError: if the table lacks the statistic with this query.
    """
    return _grid(table, [(statistic, query, title)], {title: reference}, width=5.2, height=3.2)


@styled
def layer_line_grid(
    table: pd.DataFrame,
    panels: Sequence[tuple[str, str, str]],
    *,
    references: Mapping[str, Reference | None] | None = None,
) -> Figure:
    """A panel of `layer_lines` for every (statistic, query, title); `references` are by title.

    Raises:
        InputError: if the table lacks a statistic with its query, or there are no panels.
    """
    if not panels:
        raise InputError("there are no statistics to draw over layers; name at least one")
    return _grid(table, panels, references or {}, width=2.8, height=2.5)


def _grid(
    table: pd.DataFrame,
    panels: Sequence[tuple[str, str, str]],
    references: Mapping[str, Reference | None],
    width: float,
    height: float,
) -> Figure:
    columns = -(-len(panels) // (lines := -(-len(panels) // LINES_IN_A_ROW)))
    figure = new_figure(max(4.6, width * columns), 0.5 + height * lines)
    figure.set_layout_engine("constrained", w_pad=0.08)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (statistic, query, title) in zip(grid.flat, panels):
        rows = _by_layer(table, statistic, query)
        _lines(axes, rows, table_colours(table))
        _uniform_lines(axes, references.get(title), table_colours(table))
        layer_axis(axes, rows["layer"])
        axes.set_title(textwrap.fill(title, int(9 * width)))
        axes.set_ylabel(textwrap.fill(value_label(rows), int(11 * height)))
    # All encoders are named in every panel, uniform attention only where it is drawn.
    legend_below(figure, max(grid.flat, key=lambda axes: len(axes.get_legend_handles_labels()[1])))
    return figure


def _by_layer(table: pd.DataFrame, statistic: str, query: str) -> pd.DataFrame:
    """One row for every encoder and layer: that of the layer, or the mean of its heads."""
    of_layers = table[(table["statistic"] == statistic) & table["head"].isna()]
    if of_layers["query"].isin((query, "")).any():
        return statistic_rows(of_layers, statistic, query, of_heads=False)
    rows = statistic_rows(table, statistic, query, of_heads=True)
    by_layer = rows.groupby(["encoder", "layer", "statistic", "unit"], sort=False, as_index=False)
    return by_layer[["value", "ci95_low", "ci95_high"]].mean()


def _lines(axes: Axes, rows: pd.DataFrame, colours: Mapping[str, str]) -> None:
    for index, (encoder, colour) in enumerate(colours.items()):
        own = rows[rows["encoder"] == encoder].sort_values("layer")
        marker = MARKERS[index % len(MARKERS)]
        axes.fill_between(own["layer"], own["ci95_low"], own["ci95_high"], color=colour, alpha=0.2, linewidth=0)
        axes.plot(own["layer"], own["value"], color=colour, label=encoder, marker=marker, markersize=3.5)


def _uniform_lines(axes: Axes, reference: Reference | None, colours: Mapping[str, str]) -> None:
    by_encoder = reference if isinstance(reference, Mapping) else dict.fromkeys(colours, reference)
    values = [by_encoder.get(encoder) for encoder in colours]
    if all(value == values[0] for value in values):
        uniform_line(axes, values[0])
        return
    for value, colour in zip(values, colours.values()):
        uniform_line(axes, value, colour, label="_")
    axes.plot([], [], color=FAINT, linestyle=DASHES, linewidth=1.2, label="uniform attention")


@styled
def fourier_spectra(
    spectra: Mapping[str, Float[np.ndarray, "_ _"]],
    *,
    frequencies: Sequence[float] | np.ndarray | None = None,
    first_layer: int = 1,
) -> Figure:
    """Log amplitude over spatial frequency, relative to frequency 0: lines by layer, a panel for every encoder.

    Spectra are `[l f]`; `frequencies`, in units of pi radians a patch, are 0 to 1 by default. After Park et al. 2023.

    Raises:
        InputError: if there are no spectra.
    """
    figure, panels = depth_panels(spectra, first_layer)
    for encoder, axes in panels.items():
        evenly = np.linspace(0, 1, spectra[encoder].shape[1])
        depth_lines(axes, evenly if frequencies is None else frequencies, spectra[encoder])
        axes.set(xticks=[0, 0.5, 1], xticklabels=["0", "π/2", "π"], xlabel="frequency", xlim=(0, 1))
    label_left(panels.values(), "Δ log amplitude")
    return figure


@styled
def singular_spectra(singular_values: Mapping[str, Float[np.ndarray, "_ _"]], *, first_layer: int = 1) -> Figure:
    """Singular values `[l r]` against the largest, logarithmic: lines by layer, a panel for every encoder.

    Values that are nothing but rounding are left out. After Park et al. 2023.

    Raises:
        InputError: if there are no singular values.
    """
    figure, panels = depth_panels(singular_values, first_layer)
    for encoder, axes in panels.items():
        shares = singular_values[encoder] / singular_values[encoder][:, :1]
        shares = np.where(shares > SMALLEST_SINGULAR_VALUE, shares, np.nan)
        depth_lines(axes, np.arange(1, shares.shape[1] + 1), np.log(shares))
        axes.set(xlabel="rank i", xlim=(1, shares.shape[1]))
    label_left(panels.values(), "ln (σᵢ / σ₁)")
    return figure


@styled
def mask_scale(rows: pd.DataFrame) -> Figure:
    """Error after fine-tuning (circles) and averaged attention distance (diamonds) against the scale of the mask.

    `rows` has a row for every model with the columns mask_distance (mean distance of masked to the nearest visible
    pixels, in pixels), error (0..1) and attention_distance (px); each of the two has an axis of its own. Form of Xie
    et al. 2023, figure 2a.

    Raises:
        InputError: if there are no rows, or a column is missing.
    """
    missing = [name for name in MASK_COLUMNS if name not in rows]
    if missing or rows.empty:
        raise InputError(f"the scale of masks needs rows with the columns {list(MASK_COLUMNS)}; missing: {missing}")
    left = (figure := new_figure(5.2, 3.4)).subplots()
    right = left.twinx()
    scale, error, distance = (rows[name] for name in MASK_COLUMNS)
    _points(left, scale, 100 * error, "o", COLOURS[0], "● fine-tuning error (%)")
    _points(right, scale, distance, "D", COLOURS[1], "◆ averaged attention distance (px)")
    left.set_xlabel("mean distance of masked pixels to the nearest visible one (px)")
    if scale.max() > LOGARITHMIC_FROM * scale.min():
        left.set_xscale("log")
        plain_logarithms(left.xaxis)
    right.spines["right"].set(visible=True, color=FAINT)
    right.grid(visible=False)
    return figure


def _points(axes: Axes, places: pd.Series, values: pd.Series, marker: str, colour: str, label: str) -> None:
    axes.scatter(places, values, s=34, marker=marker, color=colour, alpha=0.8, linewidths=0)
    axes.set_ylabel(label, color=colour)
    axes.tick_params(axis="y", colors=colour)
