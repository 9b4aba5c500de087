"""Small runs for the tests: the quickstart on fewer, smaller steps."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from configs import quickstart
from mim_jax.experiments.settings import Settings, resolve

ROOT = Path(__file__).parents[2]

TINY = {
    "model.width": 16,
    "model.depth": 2,
    "model.num_heads": 2,
    "method.decoder_width": 8,
    "optimization.batch_size": 128,
    "optimization.epochs": 1.0,
    "optimization.warmup_epochs": 0.5,
    "evaluation.probe": False,
    "evaluation.attention": False,
    "evaluation.knn_every": 0,
    "run.log_every": 1,
    "run.checkpoint_every": 4,
    "run.panel_every": 0,
    "run.tensorboard": False,
    "efficiency.loader_threads": 2,
}
"""Eleven steps of the quickstart with a tiny model and nothing beside training."""


def tiny_settings(**changes: Any) -> Settings:
    """Settings of a tiny run; in the names of changes, the group and the key are joined by two underscores."""
    config = quickstart.get_config()
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    for key, value in (TINY | changes).items():
        group, name = key.split(".")
        config[group][name] = value
    return resolve(config)


def command(workdir: Path, **changes: Any) -> list[str]:
    """The same run as a command line."""
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    flags = [f"--config.{key}={value}" for key, value in (TINY | changes).items()]
    return [sys.executable, "main.py", "--config=configs/quickstart.py", f"--workdir={workdir}", *flags]


def start(arguments: list[str], **environment: str) -> subprocess.Popen:
    """Starts a command in the project's root."""
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(arguments: list[str], **environment: str) -> subprocess.CompletedProcess:
    """Runs a command in the project's root to its end."""
    return subprocess.run(
        arguments, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def metrics(workdir: Path) -> list[dict[str, Any]]:
    """The records of a run."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses(workdir: Path) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm by step."""
    return {row["step"]: (row["train/loss"], row["train/gradient_norm"]) for row in metrics(workdir)}


def signal_after_step(process: subprocess.Popen, workdir: Path, step: int, number: signal.Signals) -> None:
    """Sends a signal as soon as the metrics show that a step was made."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if (workdir / "metrics.jsonl").exists() and len((workdir / "metrics.jsonl").read_text().splitlines()) >= step:
            process.send_signal(number)
            return
        time.sleep(0.02)
    raise AssertionError(f"the run ended or hung before step {step}: {process.communicate()}")
