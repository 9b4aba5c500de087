"""Which folders are models, and what `model.json` says of them; nothing here needs JAX."""

import json
from pathlib import Path
from typing import Any

from mim_jax.errors import InputError, unreadable

FORMAT = 1
DESCRIPTION = "model.json"
PARAMETERS = "parameters.safetensors"
STEPS = "checkpoints"
"""Folder of a run in which its saved steps lie."""


def is_model_directory(path: Path) -> bool:
    """Whether a folder holds a model of ours."""
    return (path / DESCRIPTION).is_file()


def read_description(folder: Path) -> dict[str, Any]:
    """What `model.json` says; raises InputError if it cannot be read, or is of another format."""
    path, anew = folder / DESCRIPTION, "write it anew by the command that made it"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}) and cannot say what the model is; {anew}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"{path} is not of format {FORMAT}, which this version reads; {anew}")
    return description
