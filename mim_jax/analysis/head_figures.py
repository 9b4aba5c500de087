"""Figures that tell the heads of a layer apart: divergence between them, heads in order, where they look."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mim_jax.analysis.panels import (
    HEAT,
    depth_bar,
    depth_colours,
    encoder_panels,
    head_places,
    label_left,
    layer_axis,
    layers_width,
    plain_logarithms,
    statistic_rows,
    table_colours,
    value_label,
)
from mim_jax.analysis.style import FAINT, INK, legend_below, new_figure, styled
from mim_jax.errors import InputError

MATRICES_IN_A_ROW = 6
HEAD_TICKS, LAYER_TICKS, MATRIX_TICKS = 8, 12, 4
NAMED_HEADS = 3
"""So many heads farthest from the query are named in a panel."""


@styled
def divergence_dots(table: pd.DataFrame, statistic: str = "kl_between_heads", *, log: bool = False) -> Figure:
    """How far heads attend apart: a large dot for the layer, a small one for every head where heads have values.

    One panel for every encoder, all on one vertical axis, from 0 or logarithmic. Form of Xie et al. 2023, figure 4.

    Raises:
        InputError: if the table lacks the statistic for whole layers.
    """
    rows = statistic_rows(table, statistic, of_heads=False)
    heads = table[table["head"].notna()]
    heads = statistic_rows(heads, statistic, of_heads=True) if (heads["statistic"] == statistic).any() else heads[:0]
    figure, panels = encoder_panels(list(rows["encoder"].unique()), width=layers_width(rows["layer"]))
    for encoder, axes in panels.items():
        own, small = rows[rows["encoder"] == encoder], heads[heads["encoder"] == encoder]
        _divergences(axes, own, small, table_colours(table)[encoder])
        layer_axis(axes, own["layer"])
    first = next(iter(panels.values()))
    first.set_yscale("log") if log else first.set_ylim(bottom=0)
    if log:
        plain_logarithms(first.yaxis)
    label_left(panels.values(), value_label(rows))
    legend_below(figure, first)
    return figure


def _divergences(axes: Axes, layers: pd.DataFrame, heads: pd.DataFrame, colour: str) -> None:
    if len(heads):
        label = "one head, mean over the others"
        axes.scatter(head_places(heads), heads["value"], s=12, color=colour, alpha=0.5, linewidths=0, label=label)
    axes.vlines(layers["layer"], layers["ci95_low"], layers["ci95_high"], color=INK, linewidth=1)
    axes.scatter(layers["layer"], layers["value"], s=54, color=colour, edgecolors=INK, zorder=3, label="whole layer")


@styled
def sorted_heads(table: pd.DataFrame, statistic: str, query: str = "patches") -> Figure:
    """The heads of every layer from smallest to largest, a curve for every encoder in the stripe of the layer.

    A stripe is as wide for few heads as for many. After Raghu et al. 2021 and Walmer et al. 2023.

    Raises:
        InputError: if the table lacks the statistic of single heads with this query.
    """
    rows = statistic_rows(table, statistic, query, of_heads=True)
    figure = new_figure(min(11.0, max(5.0, 1.2 + 0.55 * rows["layer"].max())), 3.4)
    axes = figure.subplots()
    for _, own in rows.groupby(["encoder", "layer"], sort=False):
        encoder, layer = own["encoder"].iloc[0], own["layer"].iloc[0]
        place = layer + 0.8 * ((np.arange(len(own)) + 0.5) / len(own) - 0.5)
        label = encoder if layer == rows.loc[rows["encoder"] == encoder, "layer"].min() else "_"
        colour = table_colours(table)[encoder]
        axes.plot(place, np.sort(own["value"]), label=label, marker="o", markersize=2.4, linewidth=1.1, color=colour)
    layer_axis(axes, rows["layer"], "layer; within it, heads from smallest to largest")
    for layer in range(rows["layer"].min(), rows["layer"].max() + 1, 2):
        axes.axvspan(layer - 0.5, layer + 0.5, color="#f4f4f4", linewidth=0, zorder=-1)
    axes.set_ylabel(value_label(rows))
    legend_below(figure, axes)
    return figure


@styled
def head_heatmap(table: pd.DataFrame, statistic: str, query: str = "patches") -> Figure:
    """A cell for every head, layers downwards, a panel for every encoder, all on one colour scale; no head, no colour.

    Raises:
        InputError: if the table lacks the statistic of single heads with this query.
    """
    rows = statistic_rows(table, statistic, query, of_heads=True)
    names, scale = list(rows["encoder"].unique()), Normalize(rows["value"].min(), rows["value"].max())
    figure, panels = encoder_panels(names, height=0.3 + 0.2 * max(12, rows["layer"].max()), sharey=False)
    for encoder, axes in panels.items():
        cells = rows[rows["encoder"] == encoder].pivot(index="layer", columns="head", values="value")
        layers, heads = cells.index, cells.columns.astype(int)
        extent = (heads[0] - 0.5, heads[-1] + 0.5, layers[-1] + 0.5, layers[0] - 0.5)
        axes.imshow(cells, cmap=HEAT, norm=scale, extent=extent, aspect="auto", interpolation="nearest")
        axes.set(xticks=_ticks(*heads[[0, -1]], HEAD_TICKS), yticks=_ticks(*layers[[0, -1]], LAYER_TICKS))
        axes.set_xlabel("head")
        axes.grid(visible=False)
    label_left(panels.values(), "layer")
    _scale_bar(figure, scale, value_label(rows))
    return figure


def _ticks(first: int, last: int, most: int) -> range:
    return range(first, last + 1, -(-(last - first + 1) // most))


def _scale_bar(figure: Figure, scale: Normalize, label: str) -> None:
    panels = [axes for axes in figure.axes if axes.get_visible()]
    figure.colorbar(ScalarMappable(scale, HEAT), ax=panels, label=label).outline.set_visible(False)


@styled
def head_matrix(
    matrix: Float[np.ndarray, "l k k"],
    *,
    layers: Sequence[int] | None = None,
    title: str = "",
    label: str = "KL(row, column) (nats)",
) -> Figure:
    """A heat map of heads against heads for every layer given, all on one colour scale from 0.

    `layers` are their numbers, by default from 1.

    Raises:
        InputError: if there is no layer.
    """
    if not matrix.size:
        raise InputError("there is no layer with a matrix of heads to draw; give at least one")
    depth, heads, _ = matrix.shape
    columns = min(depth, MATRICES_IN_A_ROW)
    lines = -(-depth // columns)
    figure = new_figure(max(3.6, 1.55 * columns + 0.9), 0.6 + 1.75 * lines)
    figure.set_layout_engine("compressed")
    grid = figure.subplots(lines, columns, squeeze=False)
    scale, ticks = Normalize(0, np.nanmax(matrix)), _ticks(1, heads, MATRIX_TICKS)
    for index, axes in enumerate(grid.flat[:depth]):
        axes.imshow(matrix[index], cmap=HEAT, norm=scale, extent=(0.5, heads + 0.5, heads + 0.5, 0.5))
        axes.set(xticks=ticks, yticks=ticks if index % columns == 0 else [])
        axes.set_xlabel("head" if index >= depth - columns else "")
        axes.set_title(f"layer {layers[index] if layers else index + 1}", fontsize=9)
        axes.grid(visible=False)
    for axes in grid.flat[depth:]:
        axes.set_visible(False)
    label_left(grid.flat, "head")
    figure.suptitle(title, fontsize=10, fontweight="bold")
    _scale_bar(figure, scale, label)
    return figure


@styled
def offset_scatter(table: pd.DataFrame) -> Figure:
    """Where the centre of a head's attention lies, seen from the query: a dot for every head, coloured by its layer.

    From `row_offset` (down) and `column_offset` (to the right), as in the image; a panel for every encoder, all on
    the same axes. The heads farthest away are named layer.head. After Walmer et al. 2023.

    Raises:
        InputError: if the table lacks one of the two.
    """
    rows, columns = (statistic_rows(table, f"{name}_offset", of_heads=True) for name in ("row", "column"))
    points = rows.merge(columns, on=["encoder", "layer", "head"], suffixes=("_down", "_right"))
    limit = 1.3 * max(points[["value_down", "value_right"]].abs().to_numpy().max(), 1e-6)
    by_encoder = {str(encoder): own for encoder, own in points.groupby("encoder", sort=False)}
    figure, panels = encoder_panels(list(by_encoder))
    figure.set_layout_engine("compressed")
    for encoder, axes in panels.items():
        _offsets(axes, by_encoder[encoder])
        axes.set(xlim=(-limit, limit), ylim=(limit, -limit), aspect="equal")
        axes.set_xlabel(f"to the right ({rows['unit'].iloc[0]})")
    label_left(panels.values(), f"down ({rows['unit'].iloc[0]})")
    depth_bar(figure, {encoder: own["layer"] for encoder, own in by_encoder.items()})
    return figure


def _offsets(axes: Axes, points: pd.DataFrame) -> None:
    for line in (axes.axhline, axes.axvline):
        line(0, color=FAINT, linewidth=0.8)
    right, down = points["value_right"], points["value_down"]
    axes.scatter(right, down, s=20, c=depth_colours(points["layer"]), alpha=0.8, linewidths=0)
    for point in points.loc[np.hypot(right, down).nlargest(NAMED_HEADS).index].itertuples():
        side, away = ("left", 4) if point.value_right > 0 else ("right", -4)
        axes.annotate(
            f"{point.layer}.{point.head:.0f}",
            (point.value_right, point.value_down),
            xytext=(away, 0),
            textcoords="offset points",
            ha=side,
            va="center",
            fontsize=6.5,
        )
