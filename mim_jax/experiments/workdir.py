"""The folder of a run: what it was started with, and whether it may go on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mim_jax.errors import InputError
from mim_jax.experiments.analyze_settings import AnalyzeSettings
from mim_jax.experiments.probe_settings import ProbeSettings
from mim_jax.experiments.settings import NUMBERS, Settings, differing_keys, to_json
from mim_jax.files import write_atomically

AnySettings = Settings | AnalyzeSettings | ProbeSettings


def open_workdir(workdir: Path, settings: AnySettings, groups: Sequence[str] = NUMBERS, *, active: bool = True) -> None:
    """Makes a new workdir, or checks that the one there was made with the same settings; writes `config.json`.

    `groups` of the settings decide what is learned. Only one process (`active`) writes. Raises InputError if the folder
    is not writable, or if settings that decide what is learned differ (unless `config.run.allow_config_change`).
    """
    saved = _saved_settings(workdir)
    if saved is not None and not settings.run.allow_config_change:
        differences = differing_keys(saved, settings, groups)
        if differences:
            raise InputError(
                f"{workdir} holds a run with other settings: {', '.join(differences)}; use another --workdir, the same "
                "settings, or --config.run.allow_config_change=True to go on regardless"
            )
    if active:
        write_atomically(workdir / "config.json", to_json(settings))


def _saved_settings(workdir: Path) -> Mapping[str, Any] | None:
    path = workdir / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); repair or remove it") from error
