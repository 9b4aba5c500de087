"""The folders of saved steps: which are complete, which stay, what is left over.

A step is the folder `<folder>/<step>`. It is written under another name and renamed when complete, and renamed again
before it is deleted, so a folder whose name is a number is always a whole step, whenever the process is killed.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from mim_jax.errors import InputError

_DELETED = ".deleted"
_UNFINISHED = ".orbax-checkpoint-tmp"  # Orbax's name for a step being written


def steps_to_keep(steps: Sequence[int], scores: Mapping[int, float], keep_last: int, keep_every: int) -> set[int]:
    """The newest `keep_last` steps, the multiples of `keep_every` (0: none) and the first of the highest score."""
    newest = sorted(steps)[-keep_last:]
    milestones = [step for step in steps if keep_every and step % keep_every == 0]
    best = [max(sorted(scores), key=lambda step: scores[step])] if scores else []
    return {*newest, *milestones, *best}


def complete_steps(folder: Path) -> list[int]:
    """The steps in `folder`, ascending; none where there is no folder."""
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal())


def latest_step(folder: Path) -> int | None:
    """The last complete step, the same in every process."""
    return step_or_none(agreed(max(complete_steps(folder), default=-1)))


def existing_step(folder: Path, step: int | None) -> int:
    """`step`, or the last one; raises InputError when it is not there."""
    found = latest_step(folder) if step is None else step
    if found is None or not (folder / str(found)).is_dir():
        wanted = "checkpoint" if step is None else f"checkpoint {step}"
        raise InputError(f"There is no {wanted} in {folder}: its complete steps are {complete_steps(folder)}.")
    return found


def agreed(number: int) -> int:
    """The first process's number, in every process: file systems do not show all of them the same at once."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(number))) if jax.process_count() > 1 else int(number)


def step_or_none(step: int) -> int | None:
    """Undoes the -1 that stands for no step while processes agree."""
    return None if step < 0 else step


def delete_steps(folder: Path, steps: Sequence[int]) -> None:
    """Deletes steps, in the first process only."""
    if jax.process_index() == 0:
        for step in steps:
            (folder / str(step)).rename(folder / f"{step}{_DELETED}")
        _remove_leftovers(folder)


def prepare_folder(folder: Path) -> None:
    """Makes a folder that can be written and holds nothing unfinished, in the first process only."""
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # a folder that cannot be written is refused here, before half a save runs in the background
        _remove_leftovers(folder)


def _remove_leftovers(folder: Path) -> None:
    """Deletes what is half written or half deleted; not to be called while a save is under way."""
    for path in folder.iterdir():
        if path.name.endswith(_DELETED) or _UNFINISHED in path.name:
            shutil.rmtree(path)


@contextlib.contextmanager
def writing(folder: Path, step: int) -> Generator[None]:
    """Turns what the disk refuses inside the block into one InputError."""
    try:
        yield
    except Exception as error:
        if not (reason := disk_error(error)):
            raise
        steps = complete_steps(folder)
        last = f"the last complete step is {steps[-1]}" if steps else "there is no complete step yet"
        raise InputError(
            f"Checkpoint {step} could not be written to {folder} ({reason}); {last}: "
            f"make room or give another folder, and start again."
        ) from error


def disk_error(error: Exception) -> str:
    """What the operating system said, or "" where `error` does not come from it."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    code = re.search(r"os_error_code='(\d+)'", str(error))  # how TensorStore, below Orbax, reports it
    return os.strerror(int(code[1])) if code else ""
