"""Figures of how alike layers are, within an encoder and across two."""

import textwrap
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mim_jax.analysis.style import new_figure, styled
from mim_jax.errors import InputError

PANELS_IN_A_ROW = 3
LAYER_TICKS = 6
SIMILAR = colormaps["magma"].with_extremes(bad="#b4b4b4")
"""What is missing is grey, which no value has."""
SCALE = Normalize(0, 1)


@styled
def cka_heatmaps(
    matrices: Mapping[str | tuple[str, str], Float[np.ndarray, "_ _"]], caption: str = "", *, first_layer: int = 1
) -> Figure:
    """A heat map of layers against layers for every matrix `[l m]`, all on one scale from 0 to 1.

    The key is the name of an encoder, or the names of two: that of the rows, drawn upwards, and that of the columns.
    `caption` stands above and should say what a sample is and which estimator it was. Unbiased values a little outside
    0..1 have the colour of the end; missing ones are grey. After Kornblith et al. 2019 and Raghu et al. 2021.

    Raises:
        InputError: if there is no matrix, or an empty one.
    """
    if not matrices or not all(matrix.size for matrix in matrices.values()):
        raise InputError("there are no similarities of layers to draw; give a matrix with at least one layer")
    columns = min(len(matrices), PANELS_IN_A_ROW)
    lines = -(-len(matrices) // columns)
    figure = new_figure(max(4.2, 2.7 * columns + 0.9), 0.4 + 2.6 * lines)
    figure.set_layout_engine("compressed")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes, (names, matrix) in zip(grid.flat, matrices.items()):
        _heatmap(axes, matrix, (names, names) if isinstance(names, str) else names, first_layer)
    for axes in grid.flat[len(matrices) :]:
        axes.set_visible(False)
    bar = figure.colorbar(ScalarMappable(SCALE, SIMILAR), ax=grid, label="CKA", shrink=min(1.0, 1.4 / lines))
    bar.outline.set_visible(False)
    figure.suptitle(textwrap.fill(caption, int(14 * figure.get_figwidth())), fontsize=9)
    return figure


def _heatmap(axes: Axes, matrix: Float[np.ndarray, "l m"], names: tuple[str, str], first: int) -> None:
    rows, columns = (range(first, first + count) for count in matrix.shape)
    extent = (first - 0.5, columns[-1] + 0.5, first - 0.5, rows[-1] + 0.5)
    axes.imshow(matrix, cmap=SIMILAR, norm=SCALE, origin="lower", extent=extent, interpolation="nearest")
    axes.set(xticks=columns[:: -(-len(columns) // LAYER_TICKS)], yticks=rows[:: -(-len(rows) // LAYER_TICKS)])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    if names[0] == names[1]:
        axes.set(title=textwrap.fill(names[0], 26), xlabel="layer", ylabel="layer")
    else:
        one, other = (textwrap.fill(f"layer of {name}", 30) for name in names)
        axes.set(xlabel=other, ylabel=one)
