"""The tidy table of probes, `probes.csv`: the row, the table, the files."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mim_jax.errors import InputError
from mim_jax.files import write_atomically

RAW_PIXELS = "pixels"
"""What stands for a pooling where the pixels themselves were probed, without any encoder."""

WHOLE_NUMBERS = ("layer", "labels_per_class")
"""Columns of whole numbers that may be missing."""

OLDER_COLUMNS = {"accuracy_mean": "accuracy", "accuracy_std": "deviation"}
OLDER_PROTOCOLS = {"linear": "logistic"}
"""What runs called these before, and what it is."""


class Read(NamedTuple):
    """What features are of.

    Attributes:
        encoder: name of the encoder.
        layer: number of the block that was read, from 1; None for raw pixels.
        pooling: how its tokens became a vector.
        final_norm: whether the encoder's final norm came first.
    """

    encoder: str
    layer: int | None
    pooling: str
    final_norm: bool


@dataclasses.dataclass(frozen=True)
class ProbeRow:
    """One accuracy.

    Attributes:
        encoder: name of the encoder.
        layer: number of the block that was read, from 1; None for raw pixels.
        pooling: how its tokens became a vector; `RAW_PIXELS` for raw pixels.
        final_norm: whether the encoder's final norm came first.
        protocol: "trained" (a head, and its pooling where that has parameters, by stochastic gradients: with a fixed
            pooling the field's linear probe), "k-NN", or "logistic" (logistic regression, fitted to the end).
        accuracy: top-1 accuracy in [0, 1] (with few labels the mean over draws).
        low: lower end of its 95 % interval, of Wilson over test images, or with few labels of Student over draws; NaN
            for a single draw.
        high: upper end.
        images: number of test images.
        parameters: numbers that were trained, of the head and its pooling; 0 for other protocols.
        seconds: time that the probe took; of "trained", all of the encoder's probes together.
        labels_per_class: labelled training images of every class (on average, where it was a share of them); None
            for all.
        draws: number of draws of labelled images; 1 with all labels.
        deviation: sample standard deviation over draws; None for a single one.
        details: settings and what was chosen, by name.
    """

    encoder: str
    layer: int | None
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
    draws: int = 1
    deviation: float | None = None
    details: Mapping[str, object] = dataclasses.field(default_factory=dict)


_FIELDS = [field.name for field in dataclasses.fields(ProbeRow) if field.name != "details"]


def probe_table(rows: Sequence[ProbeRow]) -> pd.DataFrame:
    """One row each, one column a field; the details follow as columns of their own."""
    plain = [dataclasses.asdict(row) for row in rows]
    return _typed(pd.DataFrame([row | row.pop("details") for row in plain]))


def save_table(table: pd.DataFrame, folder: str | Path) -> None:
    """Writes `probes.csv` and `probes.json` (a list of records; what is missing is null)."""
    write_atomically(Path(folder) / "probes.csv", table.to_csv(index=False))
    write_atomically(Path(folder) / "probes.json", f"{table.to_json(orient='records', indent=2)}\n")


def read_table(folder: str | Path) -> pd.DataFrame:
    """The table that `save_table` wrote, of a run or of a probing run.

    Tables of older runs, whose rows had fewer fields, are read under today's names; what they lack is missing.

    Raises:
        InputError: if there is none, or it is no table of probes.
    """
    path = Path(folder) / "probes.csv"
    try:
        table = pd.read_csv(path).rename(columns=OLDER_COLUMNS)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table of probes ({error}); give the folder of a run") from None
    if not {"encoder", "protocol", "accuracy"} <= set(table.columns):
        raise InputError(f"{path} is no table of probes: it has no encoder, protocol and accuracy; give a run's folder")
    older = [name for name in _FIELDS if name not in table.columns]
    table = table.assign(**dict.fromkeys(older)).replace({"protocol": OLDER_PROTOCOLS})
    return _typed(table)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype(dict.fromkeys(WHOLE_NUMBERS, "Int64") | {"deviation": "float64"})
