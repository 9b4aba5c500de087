"""The folder of a run: whether it can be one, what it was started with, and whether that run may go on."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mim_jax.errors import InputError, unreadable
from mim_jax.experiments.places import with_full_paths
from mim_jax.experiments.saved_settings import AnySettings, differing_keys, to_json
from mim_jax.experiments.settings import NUMBERS
from mim_jax.files import write_atomically
from mim_jax.paths import local_path
from mim_jax.weights.description import STEPS, is_model_directory

CONFIG = "config.json"


def open_workdir(
    workdir: str | Path, settings: AnySettings, groups: Sequence[str] = NUMBERS, *, active: bool = True
) -> Path:
    """Makes a new workdir, or checks the one that is there, and writes `config.json`; returns its full path.

    Only one process (`active`) writes. Raises InputError as `check_workdir`, or if the folder cannot be written.
    """
    workdir = check_workdir(workdir, settings, groups)
    if active:
        write_atomically(workdir / CONFIG, to_json(settings))
    return workdir


def check_workdir(workdir: str | Path, settings: AnySettings, groups: Sequence[str] = NUMBERS) -> Path:
    """The full path of a workdir; nothing is written, and JAX is not needed.

    `groups` of the settings decide what is learned. Raises InputError for what can be no folder, a folder of something
    else, or that of a run whose deciding settings differ (unless `config.run.allow_config_change`).
    """
    workdir = local_path(workdir)
    try:
        _check_place(workdir)
        saved = _saved_settings(workdir)
    except OSError as error:
        raise unreadable(workdir, error) from error
    if saved is None:
        return workdir
    there, here = _experiment(saved), getattr(settings, "experiment", "pretrain")
    if there != here:
        what = f"a run of '{there}'" if there else f"a {CONFIG} that is of no run"
        raise InputError(f"{workdir} holds {what}; use another --workdir for '{here}'")
    current = with_full_paths(json.loads(to_json(settings)))
    differences = differing_keys(with_full_paths(saved), current, type(settings), groups)
    if differences and not settings.run.allow_config_change:
        raise InputError(
            f"{workdir} holds a run with other settings: {', '.join(differences)}; use another --workdir, the same "
            "settings, or --config.run.allow_config_change=True to go on regardless"
        )
    return workdir


def _check_place(workdir: Path) -> None:
    """Raises InputError if no run can write here."""
    there = next(path for path in (workdir, *workdir.parents) if path.exists() or path.is_symlink())
    if not there.exists():
        raise InputError(f"cannot write {workdir}: {there} is a link to nothing; choose another --workdir")
    if not there.is_dir():
        raise InputError(f"cannot write {workdir}: {there} is a file; choose another --workdir")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {workdir}: {there} may not be written; choose another --workdir")
    if is_model_directory(workdir) and not (workdir / CONFIG).exists() and not (workdir / STEPS).exists():
        raise InputError(f"{workdir} holds a model that no run made here; use another --workdir")


def _saved_settings(workdir: Path) -> Mapping[str, Any] | None:
    path = workdir / CONFIG
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); correct it, or use another --workdir") from error
    return saved if isinstance(saved, dict) else {}


def _experiment(saved: Mapping[str, Any]) -> str:
    """The experiment that saved settings are of; "" if they are of none."""
    return str(saved.get("experiment", "pretrain" if "method" in saved else ""))
