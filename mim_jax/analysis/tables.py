"""Tidy tables of statistics: one row for every encoder, layer, head, query group and statistic."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mim_jax.analysis.definitions import definition_of
from mim_jax.analysis.measuring import Statistics
from mim_jax.analysis.moments import Moments
from mim_jax.files import write_arrays, write_atomically
from mim_jax.ops.intervals import uncertainty

COLUMNS = (
    *("encoder", "layer", "head", "query", "statistic"),
    *("value", "standard_error", "ci95_low", "ci95_high", "n", "unit", "definition"),
)

Arrays = Mapping[str, Mapping[int, np.ndarray]]
"""Arrays by name and number of the layer."""


def statistics_table(encoder: str, moments: Moments, depths: Sequence[int]) -> pd.DataFrame:
    """One row for every layer, head (both from 1; no head for a whole layer), query group and statistic.

    `moments` are of the `Statistics` of all stages, `depths` their numbers of blocks. Layer 0 is the embedded patches.
    The standard error of a single image is NaN.
    """
    count = int(moments.count)
    stages = zip(first_layers(depths), moments.mean, moments.squares, strict=True)
    return as_table([row for first, mean, squares in stages for row in _rows(encoder, count, first, mean, squares)])


def as_table(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Rows of `COLUMNS`; a head of None is missing."""
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"head": "Int64"})


def summary_row(encoder: str, layer: int, kind: str, statistic: str, value: float, count: int) -> tuple[Any, ...]:
    """A row of a statistic of the features of all images together, which has no interval; `kind` is that of sample."""
    known, nothing = definition_of(statistic), float("nan")
    key = encoder, layer, None, kind, statistic
    return *key, value, nothing, nothing, nothing, count, known.unit, known.definition


def arrays_of(moments: Moments, depths: Sequence[int]) -> Arrays:
    """Means over images of all arrays."""
    arrays: dict[str, dict[int, np.ndarray]] = {}
    for first, mean in zip(first_layers(depths), moments.mean, strict=True):
        for name, stacked in mean.arrays.items():
            arrays.setdefault(name, {}).update(enumerate(np.asarray(stacked), first))
    return arrays


def first_layers(depths: Sequence[int]) -> list[int]:
    """Number of the first layer of what `Measure` calls stages: the embedded patches, then every stage."""
    return [0, *(1 + sum(depths[:stage]) for stage in range(len(depths)))]


def _rows(encoder: str, count: int, first: int, mean: Statistics, squares: Statistics) -> Iterator[tuple[Any, ...]]:
    for means, deviations in ((mean.heads, squares.heads), (mean.layers, squares.layers)):
        for query, statistics in means.items():
            for name, values in statistics.items():
                yield from _cells(encoder, count, first, query, name, values, deviations[query][name])


def _cells(
    encoder: str, count: int, first: int, query: str, name: str, values: np.ndarray, squares: np.ndarray
) -> Iterator[tuple[Any, ...]]:
    known = definition_of(name)
    error, margin = uncertainty(squares, count)
    for place, value in np.ndenumerate(np.asarray(values, np.float64)):
        layer, head = first + place[0], place[1] + 1 if len(place) > 1 else None
        interval = value - margin[place], value + margin[place]
        key = encoder, layer, head, query, name
        yield *key, value, error[place], *interval, count, known.unit, known.definition


def save_table(table: pd.DataFrame, folder: Path, name: str) -> tuple[Path, Path]:
    """Writes NAME.csv and NAME.parquet; returns both paths."""
    csv = write_atomically(folder / f"{name}.csv", table.to_csv(index=False))
    parquet = write_atomically(folder / f"{name}.parquet", table.to_parquet(index=False))
    return csv, parquet


def save_arrays(arrays: Arrays, path: Path) -> Path:
    """Writes arrays by name and layer into one npz file, as NAME/LAYER."""
    flat = {f"{name}/{layer}": values for name, own in arrays.items() for layer, values in own.items()}
    return write_arrays(path, flat, compressed=True)
