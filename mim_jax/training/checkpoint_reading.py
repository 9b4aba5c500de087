"""Reading a saved step: compared with what is wanted first, since reading would cast types without a word."""

import contextlib
import functools
import logging
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from mim_jax.errors import InputError
from mim_jax.paths import local_path
from mim_jax.training.checkpoint_folders import complete_steps, disk_error, existing_step
from mim_jax.training.trees import Tree


@functools.cache
def orbax() -> ModuleType:
    """Orbax, imported on first use, and silent: it logs dozens of lines for every save, and raises its errors too."""
    from orbax.checkpoint import v1

    logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
    return v1


def read_notes(folder: Path, step: int) -> dict[str, dict[str, Any]]:
    """The `metrics` and the `metadata` saved with a step."""
    folder = local_path(folder)
    with _reading(folder, step):
        notes = orbax().metadata(folder / str(step)).custom_metadata
        return {"metrics": notes["metrics"], "metadata": notes["metadata"]}


def read_step(folder: Path, step: int | None, target: Tree, key: str) -> Tree:
    """The state of one step, or the part of it under `key`, with the structure and shardings of `target`.

    Raises:
        InputError: no such step (the last when None), one that does not fit `target`, or one that cannot be read.
    """
    folder = local_path(folder)  # Orbax finds nothing under a relative path
    step, names = existing_step(folder, step), key.split("/") if key else []
    context = orbax().Context()
    context.pytree.loading.partial_load = bool(names)
    with _reading(folder, step), context:
        saved = _part(_description(folder / str(step)), names)
        _check_same_leaves(_leaves(saved), _leaves(target), f"Checkpoint {step} in {folder}")
        wanted = functools.reduce(lambda tree, name: {name: tree}, reversed(names), _placed(target))
        return _part(orbax().load(folder / str(step), wanted), names)


@contextlib.contextmanager
def _reading(folder: Path, step: int) -> Generator[None]:
    """Turns the many ways in which reading fails inside the block into one InputError.

    What fails may be the disk, a copy that is not whole, or another version, so that nothing is called damaged.
    """
    try:
        yield
    except (InputError, MemoryError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        earlier = [other for other in complete_steps(folder) if other < step]
        instead = f", or move it out of this folder to go on from step {earlier[-1]}" if earlier else ""
        reason = disk_error(error) or f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise InputError(
            f"Checkpoint {folder / str(step)} cannot be read ({reason}): check the permissions and the disk, copy it "
            f"anew if it was copied here{instead}."
        ) from error


def _description(path: Path) -> Any:
    """Types and shapes of what was saved, in dicts and lists."""
    tree = orbax().metadata(path).metadata
    if tree is None:
        raise ValueError("the description of its arrays cannot be read")
    return tree


def _part(tree: Any, names: Sequence[str]) -> Any:
    for name in names:
        if not isinstance(tree, Mapping) or name not in tree:
            raise InputError(f"The checkpoint has no part {'/'.join(names)!r}: give one of {sorted(tree)}.")
        tree = tree[name]
    return tree


def _placed(target: Tree) -> Tree:
    """`target` with a sharding everywhere: without one a leaf would ask for the devices it was saved from."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding or here), target)


def _leaves(tree: object) -> dict[str, str]:
    """Path of every leaf, such as `parameters/head/kernel`, to its type and shape, such as `float32[64, 10]`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _check_same_leaves(saved: Mapping[str, str], wanted: Mapping[str, str], what: str) -> None:
    """Raises InputError naming the first leaves that differ."""
    different = [path for path in sorted({*saved, *wanted}) if saved.get(path) != wanted.get(path)]
    if not different:
        return
    few = [f"{path} is {saved.get(path, 'absent')} there, {wanted.get(path, 'absent')} here" for path in different[:3]]
    more = [f"{len(different) - 3} more"] if len(different) > 3 else []
    raise InputError(f"{what} does not fit: {'; '.join(few + more)}. Use the configuration it was saved with.")
