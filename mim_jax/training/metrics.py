"""Metrics of a run on disk: JSON lines and CSV always, TensorBoard and Weights & Biases if asked.

`metrics.jsonl` holds everything; `metrics.csv` is the same as a table, written anew from it when a column is added.
A run that goes on from step s drops what a killed run wrote after s, so that every step stands there once.
"""

import csv
import io
import json
import math
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, SupportsFloat

import numpy as np
from jaxtyping import UInt8

from mim_jax.errors import InputError

Row = dict[str, Any]
"""One line of metrics: `step`, `time` (seconds since 1970), and a number or None under every other name."""

_FIRST_COLUMNS = ("step", "time")


class MetricWriter:
    """One place where metrics go; what a place has no use for it ignores."""

    def write(self, row: Row) -> None:
        """Takes one line of metrics."""

    def write_image(self, step: int, name: str, image: UInt8[np.ndarray, "h w c"]) -> None:
        """Takes one picture."""

    def flush(self) -> None:
        """Hurries what is on its way to the disk."""

    def close(self) -> None:
        """Flushes and frees."""


class MetricFiles(MetricWriter):
    """`metrics.jsonl` and `metrics.csv`; a line is in both when `write` returns.

    Args:
        workdir: where they lie.
        rows: what they begin with.
    """

    def __init__(self, workdir: Path, rows: Sequence[Row]):
        self._workdir = workdir
        _replace(workdir / "metrics.jsonl", (_json_line(row) for row in rows))
        self._lines = (workdir / "metrics.jsonl").open("a", encoding="utf-8", buffering=1)
        self._open_table(rows)

    def write(self, row: Row) -> None:
        self._lines.write(_json_line(row))
        if set(row) <= set(self._columns):
            self._table_file.write(_csv_line([row.get(name) for name in self._columns]))
        else:
            self._table_file.close()
            self._open_table(read_metrics(self._workdir))

    def close(self) -> None:
        self._lines.close()
        self._table_file.close()

    def _open_table(self, rows: Sequence[Row]) -> None:
        self._columns = list(dict.fromkeys([*_FIRST_COLUMNS, *(name for row in rows for name in row)]))
        lines = ([row.get(name) for name in self._columns] for row in rows)
        path = self._workdir / "metrics.csv"
        _replace(path, map(_csv_line, [self._columns, *lines]))
        self._table_file = path.open("a", encoding="utf-8", newline="", buffering=1)


class TensorBoard(MetricWriter):
    """Event files in `folder`, where nothing that an earlier process wrote after `resume_step` is shown."""

    def __init__(self, folder: Path, resume_step: int | None):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=0 if resume_step is None else resume_step + 1)

    def write(self, row: Row) -> None:
        for name, value in _numbers(row).items():
            self._writer.add_scalar(name, value, row["step"], walltime=row["time"])

    def write_image(self, step: int, name: str, image: UInt8[np.ndarray, "h w c"]) -> None:
        self._writer.add_image(name, image, step, dataformats="HWC")

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases(MetricWriter):
    """A run of Weights & Biases, named as the work directory and gone on with when that is."""

    def __init__(self, workdir: Path, project: str, resume_step: int | None):
        self._wandb = _import_wandb()
        name, key = workdir.absolute().name, _wandb_id(workdir / "wandb_id", resume_step)
        self._run = self._wandb.init(project=project, name=name, id=key, dir=str(workdir), resume="allow")

    def write(self, row: Row) -> None:
        self._run.log(_numbers(row), step=row["step"])

    def write_image(self, step: int, name: str, image: UInt8[np.ndarray, "h w c"]) -> None:
        self._run.log({name: self._wandb.Image(image)}, step=step)

    def close(self) -> None:
        self._run.finish()


class Writers(AbstractContextManager):
    """Writes everything to every one of `writers`; `workdir` is what its errors name."""

    def __init__(self, workdir: Path, writers: Sequence[MetricWriter]):
        self._workdir, self._writers = workdir, list(writers)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes scalars under names such as `train/loss`; what is not finite becomes null."""
        row = {"step": int(step), "time": round(time.time(), 3)} | {k: _finite(v) for k, v in values.items()}
        self._each(lambda writer: writer.write(row))

    def write_image(self, step: int, name: str, image: UInt8[np.ndarray, "h w c"]) -> None:
        """Writes a picture where there is a place for it."""
        self._each(lambda writer: writer.write_image(step, name, image))

    def flush(self) -> None:
        """Hurries what is on its way to the disk; TensorBoard's thread may stay a moment behind."""
        self._each(lambda writer: writer.flush())

    def close(self) -> None:
        """Flushes and frees all writers."""
        self._each(lambda writer: writer.close())

    def _each(self, use: Callable[[MetricWriter], None]) -> None:
        with _writing(self._workdir):
            for writer in self._writers:
                use(writer)

    def __exit__(self, *error: object) -> None:
        self.close()


def open_writers(
    workdir: Path,
    *,
    resume_step: int | None,
    tensorboard: bool = True,
    wandb_project: str = "",
    active: bool = True,
) -> Writers:
    """Opens the metrics of a run, which begins anew or goes on.

    Args:
        workdir: made if missing.
        resume_step: the step the run goes on from, where everything later is dropped; None begins anew, where
            everything is dropped.
        tensorboard: whether to write event files, in `workdir/tensorboard`.
        wandb_project: project of Weights & Biases; empty for none.
        active: False writes nothing (all processes but the first).

    Raises:
        InputError: `workdir` cannot be written, or wandb is asked for and not installed.
    """
    if not active:
        return Writers(workdir, [])
    with _writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        rows = [row for row in read_metrics(workdir) if row["step"] <= (-1 if resume_step is None else resume_step)]
        writers: list[MetricWriter] = [WeightsAndBiases(workdir, wandb_project, resume_step)] if wandb_project else []
        writers += [MetricFiles(workdir, rows)]
        writers += [TensorBoard(workdir / "tensorboard", resume_step)] if tensorboard else []
    return Writers(workdir, writers)


def read_metrics(workdir: Path) -> list[Row]:
    """All lines of `metrics.jsonl`, none where it is missing; a last line that a killed run left torn is skipped.

    Raises:
        InputError: another line is not JSON.
    """
    path = workdir / "metrics.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise InputError(
                    f"Line {number} of {path} is not JSON: correct that line, or move the file elsewhere."
                ) from error
    return rows


def _finite(value: SupportsFloat) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _numbers(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in _FIRST_COLUMNS and value is not None}


def _json_line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _replace(path: Path, lines: Iterable[str]) -> None:
    """Writes a whole file, which is the old one or the new one whenever the process is killed."""
    beside = path.with_name(path.name + ".partial")
    with beside.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines)
    beside.replace(path)


@contextmanager
def _writing(workdir: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"Metrics cannot be written to {workdir}: {error.strerror or error}.") from error


def _import_wandb() -> ModuleType:
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise InputError("Weights & Biases is not installed: run `pip install mim_jax[wandb]`.") from error
    return wandb


def _wandb_id(path: Path, resume_step: int | None) -> str:
    """The run's name at Weights & Biases, kept in a file so that a resumed run goes on under it."""
    if resume_step is None or not path.exists():
        path.write_text(uuid.uuid4().hex, encoding="utf-8")
    return path.read_text(encoding="utf-8")
