"""One look for all figures, and saving them; matplotlib without pyplot, so that nothing is global or on a screen."""

import contextlib
import functools
import io
import weakref
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mim_jax.files import write_atomically
from mim_jax.paths import local_path

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6f6f6f", "#a6761d")
"""Tell apart with any colour vision (Okabe and Ito 2008); used in the order of the encoders in a table."""
INK, FAINT = "#262626", "#8c8c8c"
PNG_DPI = 200

STYLE: "dict[RcKeyType, Any]" = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "mim_jax",  # the same figure gives the same file
}


Arguments = ParamSpec("Arguments")


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Runs a drawing function under `STYLE`, whatever the user's own settings are."""

    @functools.wraps(draw)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with _style():
            return draw(*args, **kwargs)

    return wrapped


@contextlib.contextmanager
def _style() -> Generator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, laid out without overlaps."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def encoder_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for every encoder, by order."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}


def legend_below(figure: Figure, axes: Axes) -> None:
    """One legend for the figure, below it, from the labels of `axes`."""
    handles, labels = axes.get_legend_handles_labels()
    inches = 0.55 + 0.066 * max(map(len, labels))  # of an entry: line and text
    figure.legend(handles, labels, loc="outside lower center", ncols=max(1, int(figure.get_figwidth() / inches)))


def figure_bytes(figure: Figure, file_format: str) -> bytes:
    """The figure as a "png" or "svg" file, the same bytes every time; a finished figure is drawn once."""
    drawn = _DRAWN.setdefault(figure, {})
    if file_format not in drawn:
        drawn[file_format] = _draw(figure, file_format)
    return drawn[file_format]


_DRAWN: weakref.WeakKeyDictionary[Figure, dict[str, bytes]] = weakref.WeakKeyDictionary()


def _draw(figure: Figure, file_format: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if file_format == "svg" else {"Software": None}
    with _style():  # ticks are made only now
        figure.savefig(buffer, format=file_format, dpi=PNG_DPI, metadata=metadata)
    return buffer.getvalue()


def save_figure(figure: Figure, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Writes `name.png` and `name.svg` into `folder`, each complete or not at all; returns both paths."""
    png, svg = (
        write_atomically(local_path(folder) / f"{name}.{kind}", figure_bytes(figure, kind)) for kind in ("png", "svg")
    )
    return png, svg
