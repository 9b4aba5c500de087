"""Tables of probes for a terminal and a report."""

from collections.abc import Sequence

import pandas as pd

TITLES = {"trained": "Trained heads", "k-NN": "Nearest neighbours", "logistic": "Logistic regression"}
"""What a protocol is called in a report."""


def text_by_reading(table: pd.DataFrame) -> str:
    """The table for a terminal: readings down, encoders across, accuracies in percent."""
    keys = ["protocol", "labels_per_class", "layer", "pooling", "final_norm"]
    encoders = list(dict.fromkeys(table["encoder"]))
    rows = [["protocol", "labels", "block", "pooling", *encoders]]
    for _, group in table.groupby(keys, sort=False, dropna=False):
        cells = dict(zip(group["encoder"], group["accuracy"]))
        shown = [f"{100 * cells[name]:.1f}" if name in cells else "-" for name in encoders]
        rows.append([*_reading(group.iloc[0][keys]), *shown])
    return aligned(rows)


def _reading(values: pd.Series) -> list[str]:
    protocol, labels, layer, pooling, norm = values
    amount = "all" if pd.isna(labels) else f"{labels} a class"
    return [str(protocol), amount, "-" if pd.isna(layer) else str(layer), str(pooling) + " + norm" * bool(norm)]


def grid_by_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Encoders and protocols down, labels per class across, accuracies in percent (with their deviation) as text."""
    labels = sorted(table["labels_per_class"].dropna().unique())
    columns = [*labels, pd.NA] if table["labels_per_class"].isna().any() else labels
    keys = ["encoder", "protocol"]
    groups = table.groupby(keys, sort=False)
    rows = [[*group.iloc[0][keys], *(_accuracy_text(group, label) for label in columns)] for _, group in groups]
    return pd.DataFrame(rows, columns=[*keys, *map(_label_text, columns)])


def text_by_labels(table: pd.DataFrame) -> str:
    """`grid_by_labels` for a terminal."""
    grid = grid_by_labels(table)
    return aligned([list(grid.columns), *grid.to_numpy().tolist()])


def _label_text(label: object) -> str:
    return "all labels" if pd.isna(label) else f"{label} a class"


def _accuracy_text(group: pd.DataFrame, label: object) -> str:
    wanted = group["labels_per_class"].isna() if pd.isna(label) else group["labels_per_class"] == label
    row = group[wanted.fillna(False)]
    if row.empty:
        return "-"
    mean, deviation = 100 * row["accuracy"].iloc[0], 100 * row["deviation"].iloc[0]
    return f"{mean:.1f}" if pd.isna(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text in columns, the first row underlined."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
