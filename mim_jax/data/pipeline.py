"""Batches of transformed images: a pure function of the seed and the step, in any number of processes."""

import dataclasses
import functools
import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int32

from mim_jax.data.reading import Batch, CorruptRecords, Example, Layout, Reader, read_ahead, stack
from mim_jax.data.record import Source
from mim_jax.data.transforms import Transform
from mim_jax.errors import InputError

# The first word of a seed, so that order and augmentation never share random numbers.
ORDER, AUGMENTATION = 1, 2


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingBatches:
    """Shuffled, augmented batches for training: `batches[step]` is this process's part of batch number `step`.

    Position p = step * batch_size + j is row j of the global batch. It shows record `offset` of the permutation of
    its epoch, where epoch, offset = divmod(p, len(source)), so every record comes exactly once per epoch and batches
    run across the ends of epochs. The order follows from (seed, epoch) and the augmentation from (seed, p): nothing
    depends on threads, on what was read before, or on the number of processes. Process q holds the rows from
    q * batch_size / process_count on.

    A batch is `{"image": uint8 [b, h, w, c], "label": int32 [b], "index": int32 [b]}`, its images [b, 2, h, w, c] where
    the transform makes two views; the index is that of the record shown, which differs from `indices(step)` where that
    one is corrupt and the next readable one stands in.

    Attributes:
        source: where records come from.
        transform: applied to every image, with a random generator of its own.
        batch_size: rows of the global batch; at most the size of the source, for an epoch has at least one step.
        seed: seed of order and augmentation, not negative.
        process_index: number of this process.
        process_count: number of processes.
        on_corrupt: "skip" puts the next readable record in the place of a corrupt one, "stop" raises `InputError`.
        num_threads: threads that read ahead in `iterate`: None for as many as cores, more where files are far away,
            0 for none.
        corrupt: the corrupt records this process has met.

    Raises:
        InputError: the sizes do not fit, or `on_corrupt` is unknown.
    """

    source: Source = dataclasses.field(repr=False)
    transform: Transform
    _: dataclasses.KW_ONLY
    batch_size: int
    seed: int
    process_index: int = 0
    process_count: int = 1
    on_corrupt: str = "skip"
    num_threads: int | None = None
    corrupt: CorruptRecords = dataclasses.field(default_factory=CorruptRecords)

    def __post_init__(self) -> None:
        if self.batch_size > len(self.source):
            raise InputError(
                f"The batch size {self.batch_size} exceeds the {len(self.source)} training images: "
                "choose a smaller batch or more data."
            )
        if self.seed < 0:
            raise InputError(f"The data seed must not be negative, but is {self.seed}.")
        _ = self._layout, self._reader  # made here, for they check the other values

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the data set."""
        return len(self.source) // self.batch_size

    def indices(self, step: int) -> Int32[np.ndarray, " b"]:
        """Records of the global batch number `step`, in order, without reading them."""
        first = step * self.batch_size
        return np.array([self._record(p) for p in range(first, first + self.batch_size)], np.int32)

    def __getitem__(self, step: int) -> Batch:
        return stack(self._examples(self._layout.positions(step)))

    def iterate(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """`self[start_step]` to `self[stop_step - 1]`, read ahead in threads; close it when stopping early."""
        return read_ahead(self._examples, self._layout, range(start_step, stop_step), self.num_threads)

    @functools.cached_property
    def _layout(self) -> Layout:
        return Layout(self.batch_size, self.process_index, self.process_count)

    @functools.cached_property
    def _reader(self) -> Reader:
        return Reader(self.source, self.on_corrupt, self.corrupt)

    def _record(self, position: int) -> int:
        epoch, offset = divmod(position, len(self.source))
        return int(permutation(self.seed, epoch, len(self.source))[offset])

    def _examples(self, positions: range) -> list[Example]:
        return [self._example(position) for position in positions]

    def _example(self, position: int) -> Example:
        index, record = self._reader.read(self._record(position))
        # Making a generator takes longer than a small image does.
        rng = np.random.default_rng((AUGMENTATION, self.seed, position)) if self.transform.random else None
        return _example(self._reader, self.transform, index, record, rng)


@functools.lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, size: int) -> Int32[np.ndarray, " size"]:
    """Order of the records in an epoch."""
    return np.random.default_rng((ORDER, seed, epoch)).permutation(np.arange(size, dtype=np.int32))


def evaluation_batches(
    source: Source,
    transform: Transform,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    on_corrupt: str = "skip",
    num_threads: int | None = None,
    corrupt: CorruptRecords | None = None,
) -> Iterator[Batch]:
    """Every record once, in order; this process's part of batches of `batch_size` rows.

    A batch is that of `TrainingBatches` with `valid`, bool [b]. Rows after the last record, and corrupt records, are
    not valid: they have label and index -1 and some other record's image. Every process gets the same number of
    batches. Skipped records are counted in `corrupt`, if given. Raises `InputError` at once if sizes do not fit or
    the transform is random, and while iterating for a corrupt record if `on_corrupt` is "stop".
    """
    if transform.random:
        raise InputError(f"The transform {transform.name!r} is random: evaluate with 'evaluation' or 'none'.")
    layout = Layout(batch_size, process_index, process_count)
    reader = Reader(source, on_corrupt, CorruptRecords() if corrupt is None else corrupt)

    def examples(positions: range) -> list[Example]:
        return [_evaluation_example(reader, transform, position) for position in positions]

    return read_ahead(examples, layout, range(math.ceil(len(source) / batch_size)), num_threads)


def _evaluation_example(reader: Reader, transform: Transform, position: int) -> Example:
    index, record = reader.read(position % len(reader.source))
    example = _example(reader, transform, index, record, None)
    if index == position:
        return example | {"valid": np.bool_(True)}
    return example | {"label": np.int32(-1), "index": np.int32(-1), "valid": np.bool_(False)}


def _example(
    reader: Reader, transform: Transform, index: int, record: dict, rng: np.random.Generator | None
) -> Example:
    try:
        image = transform(record["image"], rng)
    except InputError as error:
        raise InputError(f"{reader.source.describe(index)}: {error}") from error
    return {"image": image, "label": np.int32(record["label"]), "index": np.int32(index)}
