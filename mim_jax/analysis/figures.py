"""Figures: attention by layer, training curves, reconstructions and probe accuracies."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from mim_jax.analysis.panels import (
    encoder_panels,
    head_places,
    label_left,
    layer_axis,
    layers_width,
    statistic_rows,
    table_colours,
    uniform_line,
    value_label,
)
from mim_jax.analysis.style import INK, encoder_colours, legend_below, new_figure, styled
from mim_jax.errors import InputError

SMOOTHED_FROM = 60
"""A curve of at least so many points gets a running mean on top."""


@styled
def attention_dots(
    table: pd.DataFrame, statistic: str, *, uniform: float | Mapping[str, float | Sequence[float]] | None = None
) -> Figure:
    """One dot for every head over the layers, one panel for every encoder, all on one vertical axis.

    `table` is that of the attention statistics (several encoders concatenated); patch queries are drawn. `uniform` is
    the value of uniform attention (by encoder where grids differ; one a layer where layers differ), drawn dashed. Form
    of Xie et al. 2023, figures 1 and 3.

    Raises:
        InputError: if the table lacks the statistic.
    """
    rows = statistic_rows(table, statistic, of_heads=True)
    figure, panels = encoder_panels(list(rows["encoder"].unique()), width=layers_width(rows["layer"]))
    colours = table_colours(table)
    for encoder, axes in panels.items():
        own = rows[rows["encoder"] == encoder]
        _head_dots(axes, own, colours[encoder])
        uniform_line(axes, uniform.get(encoder) if isinstance(uniform, Mapping) else uniform)
        layer_axis(axes, own["layer"])
    first = next(iter(panels.values()))
    first.set_ylim(bottom=0)
    label_left(panels.values(), value_label(rows))
    legend_below(figure, first)
    return figure


def _head_dots(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    place = head_places(rows)
    axes.vlines(place, rows["ci95_low"], rows["ci95_high"], color=colour, alpha=0.35, linewidth=1)
    axes.scatter(place, rows["value"], s=22, color=colour, alpha=0.6, linewidths=0, label="one head")
    mean = rows.groupby("layer")["value"].mean()
    axes.plot(mean.index, mean, color=INK, linewidth=1.4, marker="_", markersize=7, label="mean of heads")


@styled
def training_curves(
    records: Sequence[Mapping[str, Any]],
    *,
    losses: Sequence[str] = ("loss",),
    learning_rate: str = "learning_rate",
    title: str = "",
) -> Figure:
    """Losses and, below, the learning rate over steps, from records of metrics with a "step" each.

    A record may lack any of the metrics; a value of None or NaN leaves a gap.

    Raises:
        InputError: if no record has any of `losses`.
    """
    curves = {name: curve for name in losses if len((curve := _curve(records, name))[0])}
    if not curves:
        raise InputError(f"no metrics record has any of {list(losses)}; nothing to draw")
    rates = _curve(records, learning_rate)
    heights = [3, 1] if len(rates[0]) else [3]
    figure = new_figure(6.4, 1.05 * sum(heights))
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for (name, curve), colour in zip(curves.items(), encoder_colours(list(curves)).values()):
        _draw_curve(panels[0], *curve, name.replace("_", " "), colour)
    panels[0].set(ylabel="loss", title=title)
    if len(curves) > 1:
        panels[0].legend()
    if len(heights) > 1:
        panels[1].plot(*rates, color=INK)
        panels[1].set_ylabel("learning rate")
        panels[1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        panels[1].set_ylim(bottom=0)
    panels[-1].set_xlabel("step")
    panels[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return figure


def _curve(records: Sequence[Mapping[str, Any]], name: str) -> tuple[Float[np.ndarray, "s"], Float[np.ndarray, "s"]]:
    points = [(record["step"], record[name]) for record in records if name in record]
    steps, values = np.asarray(points, np.float64).reshape(-1, 2).T
    return steps, values


def _draw_curve(
    axes: Axes, steps: Float[np.ndarray, "s"], values: Float[np.ndarray, "s"], label: str, colour: str
) -> None:
    if len(steps) < SMOOTHED_FROM:
        axes.plot(steps, values, color=colour, label=label, marker=".", markersize=4)
        return
    window = len(steps) // 30
    smooth = pd.Series(values).rolling(window, center=True, min_periods=1).mean()
    axes.plot(steps, values, color=colour, alpha=0.3, linewidth=0.8)
    axes.plot(steps, smooth, color=colour, label=label)


@styled
def image_panels(images: UInt8[np.ndarray, "r t h w c"], titles: Sequence[str], caption: str = "") -> Figure:
    """A grid of images: a row for each input, a column under each title. Small images are enlarged pixel by pixel."""
    rows, columns, height, width, _ = images.shape
    side = 1.45
    figure = new_figure(columns * side, rows * side * height / width + 0.55)
    figure.set_layout_engine("compressed", w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    grid = figure.subplots(rows, columns, squeeze=False)
    for row, column in np.ndindex(rows, columns):
        _show(grid[row, column], images[row, column])
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    figure.supxlabel(caption, fontsize=8, color=INK)
    return figure


def _show(axes: Axes, image: UInt8[np.ndarray, "h w c"]) -> None:
    pixels = np.broadcast_to(image, (*image.shape[:2], 3))
    # "auto" is nearest neighbour from threefold enlargement on and smooth below, where single pixels do not show.
    axes.imshow(pixels, interpolation="auto")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color="#d0d0d0", linewidth=0.6)


@styled
def probe_chart(table: pd.DataFrame) -> Figure:
    """Top-1 accuracy with few labels (mean and standard deviation over draws), and as bars with all labels.

    `table` has the columns encoder, protocol, labels_per_class (missing means all), accuracy and deviation.
    There is one panel for every protocol with few labels, then one of bars where there are results with all.

    Raises:
        InputError: if the table is empty.
    """
    if table.empty:
        raise InputError("there are no probe results to draw")
    colours = encoder_colours(list(table["encoder"].unique()))
    few, whole = table[table["labels_per_class"].notna()], table[table["labels_per_class"].isna()]
    protocols = list(few["protocol"].unique())
    widths = [2.9] * len(protocols) + ([_bars_width(whole)] if len(whole) else [])
    figure = new_figure(max(4.6, sum(widths) + 0.4), 3.5)
    panels = figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axes, protocol in zip(panels, protocols):
        _few_label_lines(axes, few[few["protocol"] == protocol], colours)
        axes.set(title=f"{protocol}, few labels", xlabel="labels per class")
    if len(whole):
        _full_label_bars(panels[-1], whole, colours)
        panels[-1].set_title("all labels")
    panels[0].set(ylabel="top-1 accuracy (%)", ylim=(0, 104))
    legend_below(figure, panels[0])
    return figure


def _bars_width(whole: pd.DataFrame) -> float:
    return max(2.2, 0.42 * len(whole) + 0.6)


def _few_label_lines(axes: Axes, rows: pd.DataFrame, colours: Mapping[str, str]) -> None:
    labels = sorted(rows["labels_per_class"].unique())
    for index, (encoder, colour) in enumerate(colours.items()):
        own = rows[rows["encoder"] == encoder].sort_values("labels_per_class")
        # Side by side, so that error bars of encoders do not cover each other.
        place = own["labels_per_class"].map(labels.index) + 0.08 * (index - (len(colours) - 1) / 2)
        numbers = place, 100 * own["accuracy"], 100 * own["deviation"]
        axes.errorbar(
            *(column.astype(float) for column in numbers), color=colour, label=encoder,
            marker="o", markersize=4.5, capsize=2.5, elinewidth=1.1,
        )  # fmt: skip
    axes.set_xticks(range(len(labels)), [str(label) for label in labels])
    axes.grid(axis="x", visible=False)


def _full_label_bars(axes: Axes, rows: pd.DataFrame, colours: Mapping[str, str]) -> None:
    protocols, width = list(rows["protocol"].unique()), 0.84 / len(colours)
    for index, (encoder, colour) in enumerate(colours.items()):
        own = rows[rows["encoder"] == encoder]
        place = own["protocol"].map(protocols.index) + width * (index - (len(colours) - 1) / 2)
        bars = axes.bar(place, 100 * own["accuracy"], 0.92 * width, color=colour, label=encoder)
        axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=1)
    axes.set_xticks(range(len(protocols)), protocols)
    axes.grid(axis="x", visible=False)
