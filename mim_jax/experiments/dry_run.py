"""What a run would do, without doing it."""

import math
from collections.abc import Mapping
from typing import Any

import jax

from mim_jax.experiments.learner import Learner
from mim_jax.experiments.saved_settings import to_json
from mim_jax.training.sharding import bytes_per_device
from mim_jax.training.trees import leaf_name

GIB = 2**30


def describe_run(learner: Learner) -> str:
    """Settings, parameters with their sharding, FLOPs and memory, as text."""
    return "\n\n".join(
        [
            "Settings\n" + to_json(learner.settings).rstrip(),
            "Parameters\n" + parameter_table(learner.shapes.parameters),
            "Schedule\n" + _schedule_text(learner),
            "Work\n" + _flops_text(learner),
            "Memory per device\n" + _memory_text(learner),
        ]
    )


def parameter_table(shapes: Mapping[str, Any]) -> str:
    """One line for every parameter: name, shape, number, and the mesh axis of each of its axes."""
    leaves = sorted(jax.tree_util.tree_leaves_with_path(shapes), key=lambda leaf: _natural(leaf_name(leaf[0])))
    rows = [
        (leaf_name(path), "x".join(map(str, leaf.shape)), f"{leaf.size:,}", _axes_text(leaf)) for path, leaf in leaves
    ]
    total = sum(leaf.size for _, leaf in leaves)
    rows.append(("total", "", f"{total:,}", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {number:>{widths[2]}}  {axes}".rstrip()
        for name, shape, number, axes in rows
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts block 10 after block 9."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in name.split("/")]


def _axes_text(leaf: jax.ShapeDtypeStruct) -> str:
    axes = tuple(leaf.sharding.spec)
    divided = any(axis and leaf.sharding.mesh.shape[axis] > 1 for axis in axes)
    return "(" + ", ".join(axis or "-" for axis in axes) + ")" if divided else "replicated"


def _schedule_text(learner: Learner) -> str:
    schedule, settings = learner.schedule, learner.settings.optimization
    return (
        f"{schedule.total_steps:,} steps = {settings.epochs:g} epochs of {schedule.steps_per_epoch:,} steps of "
        f"{settings.batch_size:,} images; warm-up {schedule.warmup_steps:,} steps; peak learning rate "
        f"{schedule.peak:.3e}"
    )


def _flops_text(learner: Learner) -> str:
    per_image = learner.objective.flops_per_image()
    whole = per_image * learner.settings.optimization.batch_size * learner.schedule.total_steps
    return f"{per_image / 1e9:.3f} GFLOP per image and training step (forward and backward); {whole:.3e} FLOP in all"


def _memory_text(learner: Learner) -> str:
    shapes, mesh = learner.shapes, learner.mesh
    shardings = jax.tree.map(lambda leaf: leaf.sharding, shapes)
    state = bytes_per_device(shapes, shardings)
    gradients = bytes_per_device(shapes.parameters, shardings.parameters)
    shards = mesh.shape["data"] * mesh.shape["fsdp"] * learner.settings.efficiency.accumulation
    images = math.ceil(learner.settings.optimization.batch_size / shards)
    activations = images * learner.objective.activation_bytes_per_image()
    rows = {
        "parameters, optimizer, averages": state,
        "gradients": gradients,
        f"activations of {images:,} images (estimate)": activations,
        "in all (estimate)": state + gradients + activations,
    }
    width = max(map(len, rows))
    devices = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    lines = [f"{name:<{width}}  {size / GIB:9.2f} GiB" for name, size in rows.items()]
    return "\n".join([f"mesh {devices}", *lines])
