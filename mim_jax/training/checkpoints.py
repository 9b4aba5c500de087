"""Checkpoints of a run: saved while training goes on, whole or not at all, read back bit for bit on any devices.

The disk is the only memory: nothing is known of a step but what lies in its folder.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mim_jax.errors import InputError
from mim_jax.paths import local_path
from mim_jax.training import checkpoint_folders as folders
from mim_jax.training.checkpoint_reading import orbax, read_notes, read_step
from mim_jax.training.trees import Tree


class Checkpoints:
    """The steps saved in one folder, and the rule for which of them stay.

    A step whose metric cannot be read stays, where a metric decides.

    Opening a folder only reads it; the first `save` creates it and removes what a killed run left unfinished. In a
    run of many processes every process calls every method, in the same order, on a folder that all of them see.

    Args:
        folder: where the steps lie; kept as a full path.
        keep_last: how many of the newest steps stay.
        keep_every: steps that are a multiple of this stay for good; 0 for none.
        best_metric: name in `metrics` by which one best step stays; empty for none.
        best_mode: whether a larger ("max") or a smaller ("min") metric is better.

    Raises:
        InputError: a number or mode out of range here; in every method, what the disk refuses.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_last: int = 2,
        keep_every: int = 0,
        best_metric: str = "",
        best_mode: Literal["max", "min"] = "max",
    ):
        if keep_last < 1 or keep_every < 0:
            raise InputError(f"keep_last is {keep_last} and keep_every {keep_every}: give at least 1 and 0.")
        self.folder = local_path(folder)  # Orbax finds nothing under a relative one
        self._keep_last, self._keep_every = keep_last, keep_every
        self._metric, self._sign = best_metric, {"max": 1.0, "min": -1.0}[best_mode]
        self._pending: tuple[int, Any] | None = None

    def save(
        self,
        step: int,
        state: object,
        *,
        metrics: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts writing `state` as `step`; a step that is already there is left as it is.

        Returns when the arrays have been copied, so that the caller may donate them, and before they are on disk:
        what goes wrong there is raised by the next `save`, `wait` or `close`.

        Args:
            step: number of optimizer steps taken.
            state: arrays, sharded in any way; in a run of many processes, global ones.
            metrics: scalars of this step, among them the one that decides which step is best.
            metadata: anything JSON can hold, returned by `metadata(step)`.

        Raises:
            InputError: the folder cannot be written or its disk is full, now or in the save before.
        """
        if folders.agreed(step in self.steps()):
            return
        notes = {"metrics": {k: float(v) for k, v in (metrics or {}).items()}, "metadata": dict(metadata or {})}
        with folders.writing(self.folder, step):
            folders.prepare_folder(self.folder)
            response = orbax().save_async(self.folder / str(step), state, custom_metadata=notes)
        self._pending = step, response

    def wait(self) -> None:
        """Returns when the last `save` is on disk and the steps that need not stay are gone; raises its error."""
        if self._pending is None:
            return
        (step, response), self._pending = self._pending, None
        with folders.writing(self.folder, step):
            response.result()
            steps = folders.complete_steps(self.folder)
            scores, unknown = self._scores()
            kept = unknown | folders.steps_to_keep(steps, scores, self._keep_last, self._keep_every)
            folders.delete_steps(self.folder, [step for step in steps if step not in kept])

    def steps(self) -> list[int]:
        """All complete steps, ascending; one being written is waited for."""
        self.wait()
        return folders.complete_steps(self.folder)

    @property
    def latest(self) -> int | None:
        """The last step, or None when there is none."""
        self.wait()
        return folders.latest_step(self.folder)

    @property
    def best(self) -> int | None:
        """The first step with the best metric, or None when no step has one."""
        self.wait()
        scores, _ = self._scores()
        return folders.step_or_none(folders.agreed(max(scores, key=lambda step: scores[step], default=-1)))

    def restore(self, target: Tree, step: int | None = None) -> Tree:
        """Reads one step into the structure, types and shardings of `target`.

        Args:
            target: `jax.ShapeDtypeStruct`s in the structure that was saved; one without a sharding goes to the
                first local device.
            step: which one; the last when None.

        Raises:
            InputError: no such step, a step that does not fit `target`, or one that cannot be read.
        """
        self.wait()
        return read_step(self.folder, step, target, key="")

    def metadata(self, step: int | None = None) -> dict[str, Any]:
        """What was given as `metadata` when `step` (the last when None) was saved."""
        self.wait()
        return read_notes(self.folder, folders.existing_step(self.folder, step))["metadata"]

    def discard_after(self, step: int) -> None:
        """Deletes every step later than `step`: a run that goes on from there writes them anew."""
        later = [other for other in self.steps() if other > step]
        with folders.writing(self.folder, step):
            folders.delete_steps(self.folder, later)

    def close(self) -> None:
        """Waits for the last save."""
        self.wait()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.close()
        except InputError as failure:
            if error is None:
                raise
            error.add_note(str(failure))  # what ended the run matters more than that its last save failed

    def _scores(self) -> tuple[dict[int, float], set[int]]:
        """Step to metric, larger is better, of the steps that have a finite one; and the steps that cannot be read."""
        scores, unknown = {}, set()
        for step in folders.complete_steps(self.folder) if self._metric else ():
            try:
                value = read_notes(self.folder, step)["metrics"].get(self._metric, math.nan)
            except InputError:  # it must not stop a run, and stays, for it may be the best one
                unknown.add(step)
                continue
            if math.isfinite(value):
                scores[step] = self._sign * value
        return scores, unknown


def restore_parameters(folder: Path, target: Tree, step: int | None = None, *, key: str = "parameters") -> Tree:
    """Reads one part of a saved state, without knowing the rest; never changes the folder.

    Args:
        folder: the folder given to `Checkpoints`.
        target: as for `Checkpoints.restore`, for this part only.
        step: which one; the last when None.
        key: where the part stands in the state, as names joined by "/".

    Raises:
        InputError: as `Checkpoints.restore`, or no such part.
    """
    return read_step(folder, step, target, key)
