"""Random access to the records of a data set that is spread over several files."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from mim_jax.data.tfrecord import read_offsets, read_record
from mim_jax.errors import InputError


@runtime_checkable
class Slice(Protocol):
    """A run of records in one file, as TFDS describes it."""

    filename: Any
    skip: int
    take: int
    examples_in_shard: int


@runtime_checkable
class Records(Protocol):
    """Serialised records by index."""

    def __len__(self) -> int:
        """Number of records."""

    def __getitem__(self, index: int) -> bytes:
        """One serialised record; raises `InputError` naming the file if it is damaged."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Spread:
    """How records are spread over files.

    Attributes:
        files: path of every file.
        first: number of the first record used of each file.
        ends: number of records used up to and with each file.
    """

    files: tuple[str, ...]
    first: Int64[np.ndarray, " files"]
    ends: Int64[np.ndarray, " files"]

    def __len__(self) -> int:
        return int(self.ends[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """Number of the file of a record, and the record's number in that file."""
        shard = int(np.searchsorted(self.ends, index, side="right"))
        before = int(self.ends[shard - 1]) if shard else 0
        return shard, index - before + int(self.first[shard])


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ArrayRecords:
    """Records of ArrayRecord files, read by the array_record library."""

    spread: Spread
    reader: Any

    def __len__(self) -> int:
        return len(self.spread)

    def __getitem__(self, index: int) -> bytes:
        try:
            data = self.reader[index]
        except RuntimeError as error:  # Riegeli's own error, which does not always name the file
            raise self._damaged(index, str(error)) from error
        if not data:  # what is read from a file that was cut at a block's border
            raise self._damaged(index, "the record is empty")
        return data

    def _damaged(self, index: int, cause: str) -> InputError:
        shard, number = self.spread.locate(index)
        return InputError(f"{self.spread.files[shard]} is damaged at record {number} ({cause}): copy it again.")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TFRecords:
    """Records of TFRecord files, found through the offset of every record.

    Attributes:
        spread: the files.
        offsets: where the data of each record of a file begins, as `record_offsets` gives it.
    """

    spread: Spread
    offsets: tuple[Int64[np.ndarray, " _"], ...]

    def __len__(self) -> int:
        return len(self.spread)

    def __getitem__(self, index: int) -> bytes:
        shard, number = self.spread.locate(index)
        return read_record(self.spread.files[shard], self.offsets[shard], number)


def open_array_records(slices: Sequence[Slice]) -> ArrayRecords:
    """Open ArrayRecord files; raises `InputError` for a missing file."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    spread = _spread(slices)
    _allow_open_files(len(slices))
    return ArrayRecords(spread, ArrayRecordDataSource(list(slices)))


def open_tfrecords(slices: Sequence[Slice]) -> TFRecords:
    """Open TFRecord files; raises `InputError` for a file that is missing, truncated or has too few records."""
    spread = _spread(slices)
    offsets = read_offsets(spread.files)
    for each, found in zip(slices, offsets, strict=True):
        if len(found) - 1 != each.examples_in_shard:
            raise InputError(
                f"{each.filename} holds {len(found) - 1} records where dataset_info.json says "
                f"{each.examples_in_shard}: the file is truncated or another version's; copy the data set again."
            )
    return TFRecords(spread, offsets)


def _spread(slices: Sequence[Slice]) -> Spread:
    files = tuple(os.fspath(each.filename) for each in slices)
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        raise InputError(f"{len(missing)} of {len(files)} shards are missing, the first is {missing[0]}.")
    first, takes = (np.array([getattr(each, key) for each in slices], np.int64) for key in ("skip", "take"))
    return Spread(files, first, np.cumsum(takes))


def _allow_open_files(count: int) -> None:
    """array_record keeps every shard open, and the usual limit is no more than ImageNet's 1024 shards."""
    import resource  # Unix only, as array_record is

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 512
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
