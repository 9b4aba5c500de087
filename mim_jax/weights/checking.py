"""What can be told of weights at once, before JAX is imported: that they are there, and what they are."""

from pathlib import Path
from typing import Any

from mim_jax.errors import InputError, unreadable
from mim_jax.weights.description import PARAMETERS, STEPS, is_model_directory, read_description
from mim_jax.weights.files.checkpoint_file import CheckpointFile, open_checkpoint
from mim_jax.weights.files.safetensors_file import read_safetensors

INSIDE = 3
"""How far above a folder its model is looked for: `RUN/checkpoints/STEP/PART` lies three below."""


def check_weights(path: Path) -> CheckpointFile | None:
    """The opened checkpoint at a full path, or None for a model directory or the workdir of a run.

    Headers are read and no array. Raises InputError for what is missing, is no weights, or cannot be read.
    """
    try:
        if is_model_directory(path):
            _check_model_directory(path)
            return None
        _check_place(path)
        return open_checkpoint(path)
    except OSError as error:
        raise unreadable(path, error) from error


def _check_model_directory(folder: Path) -> None:
    """Raises InputError if the parameters are not there that `model.json` names, or their header cannot be read."""
    place: Any = read_description(folder).get("parameters")
    if isinstance(place, dict) and "file" in place:
        read_safetensors(folder / Path(str(place["file"])).name)
        return
    steps = folder / STEPS
    if not steps.is_dir() or not any(step.name.isdecimal() for step in steps.iterdir()):
        raise InputError(f"There is no checkpoint in {steps}: let that run go on until it has saved one")


def _check_place(path: Path) -> None:
    """Raises InputError, naming the right one, for a folder above or below that of a model."""
    inside = path.parents[:INSIDE] if path.is_dir() else path.parents[: path.name == PARAMETERS]
    model = next((parent for parent in inside if is_model_directory(parent)), None)
    if model is not None:
        raise InputError(f"{path} is a part of the model {model}: give that folder")
    below = sorted(child.name for child in path.iterdir() if is_model_directory(child)) if path.is_dir() else []
    if below:
        raise InputError(f"{path} is no model, but holds {', '.join(below[:5])}: give one of these folders")
