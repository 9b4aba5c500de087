"""The tidy table of a probing run: one row a reading and protocol."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mim_jax.files import write_atomically
from mim_jax.probing.results import aligned


@dataclasses.dataclass(frozen=True)
class ProbeRow:
    """One accuracy.

    Attributes:
        encoder: name of the encoder.
        layer: number of the block that was read, from 1.
        pooling: how its tokens became a vector.
        final_norm: whether the encoder's final norm came first.
        protocol: "trained", "k-NN" or "logistic".
        accuracy: top-1 accuracy in [0, 1] (with few labels the mean over draws).
        low: lower end of its 95 % interval (with few labels, over draws).
        high: upper end.
        images: number of test images.
        labels_per_class: labelled training images of every class (on average, where it was a share of them); None
            for all.
        parameters: numbers that were trained, of the head and its pooling.
        seconds: time that the encoder's probes of this protocol took, all together.
        details: settings and what was chosen, by name.
    """

    encoder: str
    layer: int
    pooling: str
    final_norm: bool
    protocol: str
    accuracy: float
    low: float
    high: float
    images: int
    parameters: int = 0
    seconds: float = 0.0
    labels_per_class: int | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def probe_table(rows: Sequence[ProbeRow]) -> pd.DataFrame:
    """One row each; the details follow as columns of their own."""
    plain = [dataclasses.asdict(row) for row in rows]
    table = pd.DataFrame([row | row.pop("details") for row in plain])
    return table.astype({"labels_per_class": "Int64"})


def save_table(table: pd.DataFrame, folder: Path) -> None:
    """Writes `probes.csv` and `probes.json` (a list of records; what is missing is null)."""
    write_atomically(folder / "probes.csv", table.to_csv(index=False))
    write_atomically(folder / "probes.json", f"{table.to_json(orient='records', indent=2)}\n")


def table_text(table: pd.DataFrame) -> str:
    """The table for a terminal: readings down, encoders across, accuracies in percent."""
    keys = ["protocol", "labels_per_class", "layer", "pooling", "final_norm"]
    encoders = list(dict.fromkeys(table["encoder"]))
    rows = [[*_titles(), *encoders]]
    for _, group in table.groupby(keys, sort=False, dropna=False):
        cells = dict(zip(group["encoder"], group["accuracy"]))
        shown = [f"{100 * cells[name]:.1f}" if name in cells else "-" for name in encoders]
        rows.append([*_labels(group.iloc[0][keys]), *shown])
    return aligned(rows)


def _titles() -> list[str]:
    return ["protocol", "labels", "block", "pooling"]


def _labels(values: pd.Series) -> list[str]:
    protocol, labels, layer, pooling, norm = values
    amount = "all" if pd.isna(labels) else f"{labels} a class"
    return [protocol, amount, str(layer), pooling + " + norm" * bool(norm)]
