"""What figures of statistics share: panels of encoders, axes of layers, colours of depth, pictures."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Real
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from mim_jax.analysis.style import FAINT, encoder_colours, new_figure
from mim_jax.errors import InputError

WIDEST = 11.8
"""Width of a figure of panels, in inches."""
LAYER_TICKS = 12
DASHES = (0, (4, 3))
HEAT, MARK = "viridis", "#ff3b30"
PICTURE = 1.2
"""Width in inches."""
SPELLED = {
    "kl_between_heads": "KL between heads",
    "jensen_shannon_between_heads": "Jensen-Shannon divergence of heads",
    "fourier_relative_log_amplitude": "Δ log amplitude, highest frequency",
    "mlp_update_magnitude": "MLP update magnitude",
    "rankme": "RankMe",
    "rankme_centered": "RankMe, centred",
    "alpha_req": "α-ReQ",
    "lidar": "LiDAR",
}
"""Statistics whose name is more than its words."""
DEPTH = LinearSegmentedColormap.from_list("depth", colormaps["plasma"](np.linspace(0, 0.92, 256)))
"""Of layers: plasma without its last yellows, which are hard to see on white."""


def statistic_rows(table: pd.DataFrame, statistic: str, query: str = "patches", *, of_heads: bool) -> pd.DataFrame:
    """The rows of a statistic that have a value, of single heads or of whole layers.

    A row without a query (and a table without the column) belongs to every query.

    Raises:
        InputError: if there are none.
    """
    named = table[table["statistic"] == statistic]
    if named.empty:
        raise InputError(f"no statistic '{statistic}' in the table; it has {sorted(table['statistic'].unique())}")
    queries = named["query"].fillna("") if "query" in named else pd.Series("", index=named.index)
    rows = named[queries.isin((query, "")) & (named["head"].notna() == of_heads) & named["value"].notna()]
    if rows.empty:
        raise InputError(
            f"the table has no values of '{statistic}' of {'single heads' if of_heads else 'whole layers'} for the "
            f"query '{query}'; collect them, or draw another of the queries {sorted(queries.unique())}"
        )
    numbers = ["layer", "value", "ci95_low", "ci95_high", *(["head"] if of_heads else [])]
    return rows.astype(dict.fromkeys(numbers, float)).astype({"layer": int})


def table_colours(table: pd.DataFrame) -> dict[str, str]:
    """The colour of every encoder, the same in all figures of a table."""
    return encoder_colours(list(table["encoder"].unique()))


def value_label(rows: pd.DataFrame) -> str:
    """Name and unit of the one statistic in the rows."""
    statistic, unit = rows["statistic"].iloc[0], rows["unit"].iloc[0]
    name = SPELLED.get(statistic, statistic.replace("_", " "))
    return f"{name} ({unit})" if unit else name


def encoder_panels(
    names: Sequence[str], width: float = 2.9, height: float = 2.9, sharey: bool = True
) -> tuple[Figure, dict[str, Axes]]:
    """A panel with its title for every encoder, by default all on one vertical axis; the size of a panel in inches."""
    columns = min(len(names), max(1, int(WIDEST / width)))
    lines = -(-len(names) // columns)
    figure = new_figure(max(4.6, width * columns), 0.5 + height * lines)
    panels = figure.subplots(lines, columns, sharey=sharey, squeeze=False)
    for axes in panels.flat[len(names) :]:
        axes.set_visible(False)
    for name, axes in zip(names, panels.flat):
        axes.set_title(textwrap.fill(name, int(9 * width)))
    return figure, dict(zip(names, panels.flat))


def layers_width(layers: pd.Series) -> float:
    """Of a panel with dots for the heads of so many layers, in inches."""
    return max(2.9, 0.5 + 0.14 * layers.max())


def layer_axis(axes: Axes, layers: Iterable[int], label: str = "layer") -> None:
    """A horizontal axis with room for every layer and whole numbers."""
    first, last = min(layers), max(layers)
    axes.set_xticks(range(first, last + 1, -(-(last - first + 1) // LAYER_TICKS)))
    axes.set(xlim=(first - 0.6, last + 0.6), xlabel=label)
    axes.grid(axis="x", visible=False)


def label_left(panels: Iterable[Axes], label: str) -> None:
    """Names the vertical axis, at the left of every line of panels."""
    for axes in panels:
        place = axes.get_subplotspec()
        if place is not None and place.is_first_col():
            axes.set_ylabel(label)


def plain_logarithms(axis: Axis) -> None:
    """Plain numbers at 1, 2 and 5 of a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def head_places(rows: pd.DataFrame) -> pd.Series:
    """Where the heads of a layer stand side by side: in a fixed order, so that equal values stay apart."""
    heads = rows.groupby("layer")["head"].transform("max")
    return rows["layer"] + 0.36 * ((rows["head"] - 0.5) / heads - 0.5)


def uniform_line(
    axes: Axes, value: float | Sequence[float] | None, colour: str = FAINT, label: str = "uniform attention"
) -> None:
    """The value of uniform attention, dashed: one with its number, or one for every layer from 1."""
    style: dict[str, Any] = {"color": colour, "linestyle": DASHES, "linewidth": 1.2, "label": label}
    if isinstance(value, Sequence):
        axes.stairs(value, np.arange(len(value) + 1) + 0.5, baseline=None, **style)
    elif value is not None:
        axes.axhline(value, **style)
        # Outside, because heads may lie anywhere inside.
        place = axes.get_yaxis_transform()
        axes.text(1.01, value, f"{value:.4g}", transform=place, va="center", fontsize=7, color=colour)


def depth_colours(layers: Iterable[int]) -> Float[np.ndarray, "l 4"]:
    """A colour for every layer, from the first to the last of them."""
    layers = np.asarray(list(layers))
    return DEPTH((layers - layers.min()) / max(1, np.ptp(layers)))


def depth_bar(figure: Figure, layers: Mapping[str, Iterable[int]]) -> None:
    """What the colours of layers mean: their number, or the relative depth where encoders are not equally deep."""
    ends = {(min(numbers), max(numbers)) for numbers in map(list, layers.values())}
    label, (first, last), whole = ("layer", ends.pop(), True) if len(ends) == 1 else ("relative depth", (0, 1), False)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    colours = ScalarMappable(Normalize(first, max(last, first + 1)), DEPTH)
    ticks = MaxNLocator(6, integer=whole)
    figure.colorbar(colours, ax=panels, label=label, ticks=ticks).outline.set_visible(False)


def depth_panels(curves: Mapping[str, np.ndarray], first_layer: int = 1) -> tuple[Figure, dict[str, Axes]]:
    """Panels for curves `[l x]` of every encoder, with a bar that explains the colours of layers.

    Raises:
        InputError: if there are no curves.
    """
    if not curves or not all(values.size for values in curves.values()):
        raise InputError("there are no curves of layers to draw; give at least one layer for every encoder")
    figure, panels = encoder_panels(list(curves))
    depth_bar(figure, {name: range(first_layer, first_layer + len(values)) for name, values in curves.items()})
    return figure, panels


def depth_lines(
    axes: Axes, places: Sequence[float] | Real[np.ndarray, "x"], curves: Float[np.ndarray, "l x"], **style: Any
) -> None:
    """A line for every layer, coloured by depth."""
    for colour, curve in zip(depth_colours(range(len(curves))), curves):
        axes.plot(places, curve, color=colour, linewidth=1.2, **style)


def picture_grid(lines: int, widths: Sequence[float], shape: Sequence[int]) -> tuple[Figure, np.ndarray]:
    """Panels for pictures of a shape `[h w c]`, invisible as long as they show nothing."""
    figure = new_figure(PICTURE * sum(widths) + 0.9, PICTURE * lines * shape[0] / shape[1] + 0.5)
    figure.set_layout_engine("compressed", w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    grid = figure.subplots(lines, len(widths), squeeze=False, width_ratios=widths)
    for axes in grid.flat:
        axes.set_visible(False)
    return figure, grid


def show_pictures(
    panels: Iterable[Axes],
    titles: Iterable[str],
    image: Real[np.ndarray, "h w c"],
    maps: Iterable[np.ndarray],
    scale: Normalize,
) -> None:
    """The image, then maps in whose place a cell is the square of pixels that it stands for."""
    height, width = image.shape[:2]
    pixels = image if image.dtype == np.uint8 else image.clip(0, 1)
    pictures = [np.broadcast_to(pixels, (height, width, 3)), *maps]
    for axes, title, picture in zip(panels, titles, pictures):
        place = -0.5, width - 0.5, height - 0.5, -0.5
        interpolation = "auto" if picture is pictures[0] else "nearest"
        axes.imshow(picture, extent=place, interpolation=interpolation, cmap=HEAT, norm=scale)
        axes.set_title(textwrap.fill(title, 18), fontsize=8)
        axes.set_visible(True)
        bare(axes)


def frame_patch(panels: Iterable[Axes], query: tuple[int, int], grid: Sequence[int], shape: Sequence[int]) -> None:
    """A red frame around the patch of the query."""
    height, width = shape[0] / grid[0], shape[1] / grid[1]
    corner = query[1] * width - 0.5, query[0] * height - 0.5
    for axes in panels:
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=MARK, linewidth=1.2))


def bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def picture_bar(figure: Figure, scale: Normalize, largest: str) -> None:
    """The scale of maps, in numbers or by the largest value."""
    shrink = min(1.0, 1.8 / figure.get_figheight())
    bar = figure.colorbar(ScalarMappable(scale, HEAT), ax=figure.axes, shrink=shrink, aspect=12)
    if largest:
        bar.set_ticks([0, 1], labels=["0", largest])
    bar.outline.set_visible(False)
