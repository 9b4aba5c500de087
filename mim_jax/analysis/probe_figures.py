"""Figures of a probing run: accuracy by pooling, by layer and by number of labels, and where poolings look."""

import dataclasses
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mim_jax.analysis.style import INK, encoder_colours, legend_below, new_figure, styled
from mim_jax.errors import InputError

PLACE = ["encoder", "layer", "pooling", "final_norm", "protocol", "labels_per_class"]
"""What tells accuracies apart in a figure; of rows that differ in nothing else, the first is drawn."""
REFERENCE = "cls"
MARKERS = "osD^vPX"
"""One fewer than there are colours, so that marker and colour together repeat late."""
BAR_PANELS, CURVE_PANELS, MAPS = 4, 3, 6
"""At most so many side by side."""
LAYER_TICKS = 12
HEAT = "viridis"


@dataclasses.dataclass(frozen=True)
class PoolingPictures:
    """Images, and how much poolings take of every place in them.

    Attributes:
        images: values in 0..1, of one or three channels.
        maps: weights of the places by the name of a pooling (or of one head of it), not negative; grids may differ.

    Raises:
        InputError: if a map has another number of images.
    """

    images: Float[np.ndarray, "n h w c"]
    maps: Mapping[str, Float[np.ndarray, "m _ _"]]

    def __post_init__(self) -> None:
        for name, weights in self.maps.items():
            if len(weights) != len(self.images):
                raise InputError(f"'{name}' has maps of {len(weights)} images, not of all {len(self.images)}; draw all")


def at_last_layer(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with all labels, at the last layer that was read of their encoder; one row a reading and protocol."""
    whole = table[table["labels_per_class"].isna()]
    last = whole["layer"] == whole.groupby("encoder")["layer"].transform("max")
    return whole[last].drop_duplicates(PLACE).reset_index(drop=True)


def reading_names(table: pd.DataFrame) -> pd.Series:
    """What poolings are called: their name, and whether the final norm came first."""
    return table["pooling"] + table["final_norm"].map({True: " + norm", False: ""})


@styled
def accuracy_by_pooling(table: pd.DataFrame, protocol: str) -> Figure:
    """Bars of the poolings at an encoder's last layer with all labels, one panel for every encoder, all on shared axes.

    Lines are 95 % intervals; the dashed line is the class token's accuracy; a diamond, with its block, is the best
    layer where that is not the last. `table` is that of `probing.table.probe_table`. After Przewiezlikowski et al.
    2025, figure 1.

    Raises:
        InputError: if the table has no such rows.
    """
    rows = _rows(table, protocol)
    rows = _some(rows[rows["labels_per_class"].isna()], "with all labels")
    poolings, encoders = list(rows["pooling"].unique()), list(rows["encoder"].unique())
    figure, panels = _bar_panels(poolings, len(encoders), right=1.04 * max(rows["high"].max(), 1.0))
    for axes, encoder in zip(panels.flat, encoders):
        own = rows[rows["encoder"] == encoder]
        _bars(axes, own, poolings, _styles(table)[encoder]["color"])
        axes.set_title(textwrap.fill(f"{encoder}, block {own['layer'].max()}", 24), loc="left")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    _label_outer(panels, len(encoders), xlabel="top-1 accuracy (%)")
    return figure


def _bar_panels(poolings: Sequence[str], count: int, right: float) -> tuple[Figure, np.ndarray]:
    """Panels on shared axes, poolings downwards, with room for their names."""
    names = [textwrap.wrap(name, 24) for name in poolings]
    columns = min(count, BAR_PANELS)
    lines = -(-count // columns)
    wide, high = 0.3 + 0.065 * max(map(len, sum(names, []))), max(0.27, 0.14 * max(map(len, names)))  # inches of a name
    figure = new_figure(max(4.6, wide + 2.3 * columns), 0.7 + lines * (0.4 + high * len(poolings)))
    figure.set_layout_engine("constrained", w_pad=0.12)  # or numbers look as if they belonged to the next panel
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    ticks = [tick for tick in MaxNLocator(4).tick_values(0, right) if tick <= right]
    panels[0, 0].set(xticks=ticks, xlim=(0, right), yticks=range(len(poolings)), ylim=(len(poolings) - 0.4, -0.6))
    panels[0, 0].set_yticklabels(["\n".join(name) for name in names])
    return figure, panels


def _bars(axes: Axes, rows: pd.DataFrame, poolings: Sequence[str], colour: str) -> None:
    last = rows[rows["layer"] == rows["layer"].max()]
    best = rows.loc[rows.groupby("pooling", sort=False)["accuracy"].idxmax()]
    best = best[best["layer"] < rows["layer"].max()]
    places, above = last["pooling"].map(poolings.index), best["pooling"].map(poolings.index)
    axes.barh(places, last["accuracy"], 0.74, color=colour, alpha=0.6)
    axes.hlines(places, last["low"], last["high"], color=INK, linewidth=1.6, zorder=3)
    axes.plot(best["accuracy"], above, "D", markersize=4.5, color="white", mec=INK, mew=1)
    for value in last.loc[last["pooling"] == REFERENCE, "accuracy"]:
        axes.axvline(value, color=INK, linestyle=(0, (3, 2)), linewidth=0.9)
    beyond = {
        place: f"  ◇ {value:.1f} ({layer})" for place, value, layer in zip(above, best["accuracy"], best["layer"])
    }
    for place, value in zip(places, last["accuracy"]):
        # Outside, because lines and diamonds may lie anywhere inside.
        text, side = f"{value:.1f}{beyond.get(place, '')}", axes.get_yaxis_transform()
        axes.text(1.02, place, text, transform=side, va="center", fontsize=7.5)


@styled
def accuracy_by_layer(table: pd.DataFrame, protocol: str) -> Figure:
    """Curves over the number of the block with all labels: a panel for every pooling, a curve for every encoder.

    Bands are 95 % intervals. `table` is that of `probing.table.probe_table`.

    Raises:
        InputError: if the table has no such rows.
    """
    rows = _rows(table, protocol)
    rows = _some(rows[rows["labels_per_class"].isna()], "with all labels")

    def curve(axes: Axes, own: pd.DataFrame, style: dict[str, Any]) -> None:
        own = own.sort_values("layer")
        axes.plot(own["layer"], own["accuracy"], **style)
        axes.fill_between(own["layer"], own["low"], own["high"], color=style["color"], alpha=0.18, linewidth=0)
        if len(own) == 1:  # a band has no width there
            axes.vlines(own["layer"], own["low"], own["high"], color=style["color"])

    layers = rows["layer"].max()
    ticks = range(1, layers + 1, -(-layers // LAYER_TICKS))
    return _panels_by_pooling(rows, _styles(table), curve, "block", {"xticks": ticks, "xlim": (0.4, layers + 0.6)})


@styled
def accuracy_by_labels(table: pd.DataFrame, protocol: str) -> Figure:
    """Accuracy over labels per class at an encoder's last layer: a panel for every pooling, a curve for every encoder.

    Lines are 95 % intervals, over draws of the labelled images, and for all labels over test images. `table` is that of
    `probing.table.probe_table`.

    Raises:
        InputError: if no row of the protocol has few labels.
    """
    rows = _rows(table, protocol)
    _some(rows[rows["labels_per_class"].notna()], "with few labels")
    rows = rows[rows["layer"] == rows.groupby("encoder")["layer"].transform("max")]
    labels, styles = rows["labels_per_class"].fillna(0), _styles(table)
    numbers = sorted(labels.unique(), key=lambda number: number or np.inf)  # 0 stands for all
    # Side by side, so that intervals of encoders do not cover each other.
    aside = {encoder: 0.06 * (index - (len(styles) - 1) / 2) for index, encoder in enumerate(styles)}
    rows = rows.assign(place=labels.map(numbers.index) + rows["encoder"].map(aside))

    def curve(axes: Axes, own: pd.DataFrame, style: dict[str, Any]) -> None:
        own = own.sort_values("place")
        axes.plot(own["place"], own["accuracy"], **style)
        axes.vlines(own["place"], own["low"], own["high"], color=style["color"], linewidth=1.2)

    names = [str(number) if number else "all" for number in numbers]
    ticks = {"xticks": range(len(names)), "xticklabels": names, "xlim": (-0.5, len(names) - 0.5)}
    return _panels_by_pooling(rows, styles, curve, "labels per class", ticks)


def _rows(table: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """The rows of a protocol, in percent, poolings with their norm in one name."""
    rows = table[table["protocol"] == protocol].drop_duplicates(PLACE).reset_index(drop=True)
    percent = {name: 100 * rows[name] for name in ("accuracy", "low", "high")}
    return _some(rows.assign(pooling=reading_names(rows), **percent), f"of the protocol '{protocol}'")


def _some(rows: pd.DataFrame, which: str) -> pd.DataFrame:
    if rows.empty:
        raise InputError(f"there are no probe results {which} to draw; probe with it, or leave the figure out")
    return rows


def _styles(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """How the curve of an encoder looks, the same in all figures of a table."""
    colours = encoder_colours(list(table["encoder"].unique()))
    return {
        name: {"color": colour, "label": name, "marker": MARKERS[index % len(MARKERS)], "markersize": 4}
        for index, (name, colour) in enumerate(colours.items())
    }


def _panels_by_pooling(
    rows: pd.DataFrame,
    styles: Mapping[str, dict[str, Any]],
    curve: Callable[[Axes, pd.DataFrame, dict[str, Any]], None],
    xlabel: str,
    ticks: dict[str, Any],
) -> Figure:
    poolings = list(rows["pooling"].unique())
    columns = min(len(poolings), CURVE_PANELS)
    lines = -(-len(poolings) // columns)
    figure = new_figure(max(4.6, 3.1 * columns), 0.6 + 2.5 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes, pooling in zip(panels.flat, poolings):
        for encoder, style in styles.items():
            curve(axes, rows[(rows["pooling"] == pooling) & (rows["encoder"] == encoder)], style)
        axes.set_title(textwrap.fill(pooling, 36))
        axes.grid(axis="x", visible=False)
    panels[0, 0].set(**ticks)
    _label_outer(panels, len(poolings), xlabel, "top-1 accuracy (%)")
    legend_below(figure, panels[0, 0])
    return figure


def _label_outer(panels: np.ndarray, used: int, xlabel: str, ylabel: str = "") -> None:
    """Labels at the left and below the lowest panel of every column; panels that are not used vanish."""
    for axes in panels.flat[used:]:
        axes.set_visible(False)
    for axes in panels.flat[max(0, used - panels.shape[1]) : used]:
        axes.set_xlabel(xlabel)
        axes.tick_params(labelbottom=True)
    for axes in panels[:, 0]:
        axes.set_ylabel(ylabel)


@styled
def pooling_pictures(pictures: PoolingPictures) -> Figure:
    """A row for each image: the image, and a heat map for every pooling, each scaled to its own largest weight.

    A cell of a map is shown as the square of pixels that it stands for. With many maps, the rows repeat below.

    Raises:
        InputError: if there are no maps.
    """
    names, count = list(pictures.maps), len(pictures.images)
    if not names:
        raise InputError("there are no maps of poolings to draw; leave the figure out")
    blocks = [names[start : start + MAPS] for start in range(0, len(names), MAPS)]
    columns, (height, width) = 1 + len(blocks[0]), pictures.images.shape[1:3]
    figure = new_figure(1.3 * columns + 0.9, len(blocks) * (1.3 * count * height / width + 0.45))
    figure.set_layout_engine("compressed", w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    grid = figure.subplots(len(blocks) * count, columns, squeeze=False)
    for block, shown in enumerate(blocks):
        part = grid[block * count : (block + 1) * count]
        for axes, title in zip(part[0], ["input", *shown]):
            axes.set_title(textwrap.fill(title, 18), fontsize=8)
        for index, line in enumerate(part):
            _picture_row(line, pictures.images[index], [pictures.maps[name][index] for name in shown])
    bar = figure.colorbar(ScalarMappable(cmap=HEAT), ax=grid, shrink=min(1.0, 1.5 / len(grid)), aspect=12)
    bar.set_ticks([0, 1], labels=["0", "largest\nweight"])
    bar.outline.set_visible(False)
    return figure


def _picture_row(line: np.ndarray, image: Float[np.ndarray, "h w c"], maps: Sequence[Float[np.ndarray, "_ _"]]) -> None:
    """Draws into a row of panels."""
    height, width = image.shape[:2]
    line[0].imshow(np.broadcast_to(image, (height, width, 3)).clip(0, 1), interpolation="nearest")
    for axes, weights in zip(line[1:], maps):
        peak = max(float(weights.max()), np.finfo(np.float32).tiny)
        cells = {"interpolation": "nearest", "extent": (-0.5, width - 0.5, height - 0.5, -0.5)}
        axes.imshow(weights / peak, cmap=HEAT, vmin=0, vmax=1, **cells)
    for axes in line[1 + len(maps) :]:
        axes.set_visible(False)
    for axes in line:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
