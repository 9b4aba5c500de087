"""`model.json`: what a workdir's parameters are, for every command that reads a model."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from mim_jax.experiments.learner import Learner
from mim_jax.files import write_atomically
from mim_jax.models.build import family

FORMAT = 1


def describe_model(learner: Learner) -> dict[str, Any]:
    """Architecture, preprocessing and origin, as plain values."""
    settings = learner.settings
    return {
        "format": FORMAT,
        "family": family(learner.objective.encoder_config),
        "name": settings.model.name,
        "encoder": dataclasses.asdict(learner.objective.encoder_config),
        "preprocessing": dataclasses.asdict(learner.preprocessing),
        "origin": {"method": dataclasses.asdict(settings.method), "data": settings.data.source},
        "parameters": {"folder": "checkpoints", "key": "parameters/encoder"},
    }


def write_model_json(workdir: Path, learner: Learner) -> None:
    """Writes `model.json` into a workdir."""
    write_atomically(workdir / "model.json", json.dumps(describe_model(learner), indent=2) + "\n")
