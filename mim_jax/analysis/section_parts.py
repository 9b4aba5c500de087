"""What the sections of a report share: options, captions from definitions, panels of lines."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mim_jax.analysis.definitions import STATISTICS
from mim_jax.analysis.layer_figures import layer_line_grid
from mim_jax.analysis.panels import SPELLED
from mim_jax.analysis.report import Figure
from mim_jax.analysis.result import Analysis


@dataclasses.dataclass(frozen=True)
class Options:
    """How similarity and pictures of features are made: as in the settings of the analysis."""

    cka: str = "unbiased"
    across: bool = True
    neighbours: int = 10
    embedding_map: str = "pca"
    seed: int = 0


Parts = Iterator[tuple[str, Any]]


def has(analysis: Analysis, statistic: str, query: str | None = None, heads: bool = False) -> bool:
    rows = analysis.table[analysis.table["statistic"] == statistic]
    rows = rows if query is None else rows[rows["query"] == query]
    return bool(len(rows[rows["head"].notna()] if heads else rows))


def defined(*names: str) -> str:
    """Captions: the definitions, as they stand in the table."""
    return " ".join(f"{spelled(name)} ({STATISTICS[name].unit}): {STATISTICS[name].definition}." for name in names)


def spelled(name: str) -> str:
    """A statistic as the beginning of a sentence."""
    text = SPELLED.get(name, name.replace("_", " "))
    return text[0].upper() + text[1:]


def uniform(analysis: Analysis, statistic: str) -> Mapping[str, float | list[float]]:
    values = {name: layout.uniform(statistic) for name, layout in analysis.layouts.items()}
    return {name: value for name, value in values.items() if value is not None}


INTERVALS = "Lines through dots and bands around lines are 95 % intervals over images."


def lines(analysis: Analysis, name: str, wanted: list[tuple[str, str, str]]) -> Parts:
    there = [panel for panel in wanted if has(analysis, panel[0], panel[1])]
    if not there:
        return
    references = {
        title: uniform(analysis, statistic) or None
        for statistic, query, title in there
        if query in ("class", "patches")
    }
    rows = analysis.table[analysis.table["layer"] > 0]
    figure = layer_line_grid(rows, there, references=references)
    statistics = dict.fromkeys(statistic for statistic, _, _ in there)
    yield name, Figure(figure, f"{defined(*statistics)} {INTERVALS}")


def stacked(layers: Mapping[int, np.ndarray], first: int) -> np.ndarray:
    return np.stack([values for layer, values in layers.items() if layer >= first])


def padded(layers: list[np.ndarray]) -> np.ndarray:
    """Spectra of all layers in one array; what is missing is NaN."""
    longest = max(map(len, layers))
    return np.stack([np.pad(own, (0, longest - len(own)), constant_values=np.nan) for own in layers])
