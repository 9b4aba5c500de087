"""Probe results: the record, the table, the files and the text for a terminal."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mim_jax.files import write_atomically
from mim_jax.paths import local_path


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """Accuracy of one encoder under one protocol.

    Attributes:
        encoder: name of the encoder.
        protocol: "k-NN" or "linear".
        labels_per_class: labelled training images of every class; None means all there are.
        accuracy_mean: top-1 accuracy in [0, 1], mean over draws.
        accuracy_std: sample standard deviation over draws; None for a single one.
        draws: number of draws of labelled images.
        details: settings and what the protocol chose, by name.
    """

    encoder: str
    protocol: str
    labels_per_class: int | None
    accuracy_mean: float
    accuracy_std: float | None
    draws: int
    details: Mapping[str, Any]


def results_table(results: Sequence[ProbeResult]) -> pd.DataFrame:
    """One row a result, one column a field; the details follow as columns of their own."""
    rows = [dataclasses.asdict(result) for result in results]
    table = pd.DataFrame([row | row.pop("details") for row in rows])
    return table.astype({"labels_per_class": "Int64", "accuracy_std": "float64"})


def save_results(table: pd.DataFrame, folder: str | Path, name: str = "probes") -> tuple[Path, Path]:
    """Writes the table as `name.csv` and `name.json` (a list of records; what is missing is null)."""
    csv, json = (local_path(folder) / f"{name}.{kind}" for kind in ("csv", "json"))
    write_atomically(csv, table.to_csv(index=False))
    write_atomically(json, f"{table.to_json(orient='records', indent=2)}\n")
    return csv, json


def results_grid(table: pd.DataFrame) -> pd.DataFrame:
    """Encoders and protocols down, labels per class across, accuracies in percent (with their deviation) as text."""
    labels = sorted(table["labels_per_class"].dropna().unique())
    columns = [*labels, pd.NA] if table["labels_per_class"].isna().any() else labels
    keys = ["encoder", "protocol"]
    groups = table.groupby(keys, sort=False)
    rows = [[*group.iloc[0][keys], *(_accuracy_text(group, label) for label in columns)] for _, group in groups]
    return pd.DataFrame(rows, columns=[*keys, *map(_label_text, columns)])


def results_text(table: pd.DataFrame) -> str:
    """`results_grid` for a terminal."""
    grid = results_grid(table)
    return aligned([list(grid.columns), *grid.to_numpy().tolist()])


def _label_text(label: object) -> str:
    return "all labels" if pd.isna(label) else f"{label} a class"


def _accuracy_text(group: pd.DataFrame, label: object) -> str:
    wanted = group["labels_per_class"].isna() if pd.isna(label) else group["labels_per_class"] == label
    row = group[wanted.fillna(False)]
    if row.empty:
        return "-"
    mean, deviation = 100 * row["accuracy_mean"].iloc[0], 100 * row["accuracy_std"].iloc[0]
    return f"{mean:.1f}" if pd.isna(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def aligned(rows: list[list[str]]) -> str:
    """Rows of cells as text in columns, the first row underlined."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
