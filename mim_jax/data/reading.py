"""Reading records that may be corrupt, and reading batches ahead in threads."""

import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Iterator

import grain
import numpy as np

from mim_jax.data.record import CorruptImage, Record, Source
from mim_jax.errors import InputError

Example = dict[str, np.ndarray | np.generic]
Batch = dict[str, np.ndarray]

CHUNK = 16
"""Examples one thread makes at a time: enough to hide the cost of handing over, few enough to start quickly."""

PATIENCE = 100
"""Corrupt records in a row that end a run even when corrupt records are skipped."""

ON_CORRUPT = ("skip", "stop")

logger = logging.getLogger(__name__)


class CorruptRecords:
    """The records that could not be read so far; thread-safe. Each is logged once, when it is first met."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[int, str] = {}

    def add(self, index: int, error: CorruptImage) -> None:
        """Note a record; only the first time is logged."""
        with self._lock:
            if index in self._names:
                return
            self._names[index] = error.description
        logger.warning("Corrupt record skipped (%d so far): %s", len(self._names), error)

    def __contains__(self, index: int) -> bool:
        return index in self._names

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """What the source calls them, in the order they were met."""
        with self._lock:
            return tuple(self._names.values())


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads records of a source, and knows what to do about a corrupt one.

    Attributes:
        source: what is read.
        on_corrupt: "skip" puts the next readable record in its place, "stop" raises `InputError`.
        corrupt: where skipped records are counted.
    """

    source: Source
    on_corrupt: str = "skip"
    corrupt: CorruptRecords = dataclasses.field(default_factory=CorruptRecords)

    def __post_init__(self) -> None:
        if self.on_corrupt not in ON_CORRUPT:
            raise InputError(f"on_corrupt must be {' or '.join(map(repr, ON_CORRUPT))}, not {self.on_corrupt!r}.")

    def read(self, index: int) -> tuple[int, Record]:
        """The first readable record from `index` on, cyclically, and its index; a pure function of `index`."""
        size = len(self.source)
        for candidate in ((index + k) % size for k in range(min(size, PATIENCE))):
            if candidate not in self.corrupt:
                try:
                    return candidate, self.source[candidate]
                except CorruptImage as error:
                    self._note(candidate, error)
        raise InputError(
            f"None of {min(size, PATIENCE)} records in a row can be read, "
            f"the first is {self.source.describe(index)}: is the data set complete?"
        )

    def _note(self, index: int, error: CorruptImage) -> None:
        if self.on_corrupt == "stop":
            raise InputError(f"{error}; remove or replace it, or set on_corrupt to 'skip'.") from error
        self.corrupt.add(index, error)


def usable_cores() -> int:
    """Cores this process may use. More decoding threads than that evict each other's pictures from the caches."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stack(examples: list[Example]) -> Batch:
    """Examples to a batch."""
    return {key: np.array([example[key] for example in examples]) for key in examples[0]}


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which rows of every global batch belong to a process: a contiguous block, the blocks in process order.

    Attributes:
        batch_size: rows of the global batch.
        process_index: number of this process.
        process_count: number of processes; divides the batch size.
    """

    batch_size: int
    process_index: int
    process_count: int

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.process_count < 1 or self.batch_size % self.process_count:
            raise InputError(
                f"The batch size {self.batch_size} must be a positive multiple of the {self.process_count} processes."
            )
        if not 0 <= self.process_index < self.process_count:
            raise InputError(f"There is no process {self.process_index} among {self.process_count}.")

    @property
    def rows(self) -> int:
        """Rows of this process."""
        return self.batch_size // self.process_count

    def positions(self, step: int) -> range:
        """Positions of this process's rows of batch `step`, counted through all rows of all batches."""
        begin = step * self.batch_size + self.process_index * self.rows
        return range(begin, begin + self.rows)


def read_ahead(
    examples: Callable[[range], list[Example]], layout: Layout, steps: range, num_threads: int | None
) -> Iterator[Batch]:
    """Yield the batches of some steps in order, while threads make the next ones.

    `examples` makes the examples at a range of positions; it is called from `num_threads` threads (None for as many
    as there are cores), or, where that is 0, from the caller's when it asks. Closing the generator, also by an
    exception, ends the threads.
    """
    chunks = -(-layout.rows // CHUNK)
    threads = usable_cores() if num_threads is None else num_threads

    def chunk(number: int) -> list[Example]:
        batch, part = divmod(number, chunks)
        return examples(layout.positions(steps[batch])[part * CHUNK : (part + 1) * CHUNK])

    dataset = grain.MapDataset.range(len(steps) * chunks).map(chunk)
    # Two batches wait ready, or enough chunks for all threads where batches are small.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * max(chunks, threads))
    parts = iter(dataset.to_iter_dataset(options))
    try:
        for _ in steps:
            yield stack([example for _ in range(chunks) for example in next(parts)])
    finally:
        parts.close()  # or else threads keep decoding, and an exception hangs the process at its exit
