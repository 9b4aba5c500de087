"""`model.json` of a workdir: what its parameters are, for every command that reads a model."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from mim_jax.experiments.learner import Learner
from mim_jax.files import write_atomically
from mim_jax.weights.description import DESCRIPTION, STEPS
from mim_jax.weights.model_directory import describe


def describe_model(learner: Learner) -> dict[str, Any]:
    """Architecture, method, preprocessing and origin, as plain values."""
    settings, objective = learner.settings, learner.objective
    return describe(
        objective.encoder_config,
        objective,
        learner.preprocessing,
        name=settings.model.name,
        origin={"method": dataclasses.asdict(settings.method), "data": settings.data.source},
        parameters={"folder": STEPS, "key": "average" if settings.optimization.ema_decay else "parameters"},
    )


def write_model_json(workdir: Path, learner: Learner) -> None:
    """Writes `model.json` into a workdir."""
    write_atomically(workdir / DESCRIPTION, json.dumps(describe_model(learner), indent=2) + "\n")
