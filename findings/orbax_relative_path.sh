#!/usr/bin/env bash
# orbax-checkpoint 0.12.8 (its v1 interface), jax 0.10.2.
#
# A `training.Checkpointer` that is opened with a relative path lists its checkpoints as it should, but cannot load them: the
# error says that no handler for the stored item is registered, as if the checkpoint were of another kind. Nothing says that
# the path is the reason, although `load_pytree` of the very same folder by a relative path does say so. With the absolute
# path the checkpoint is read.
#
# Seen:
#   absolute: steps [3], loaded
#   relative: steps [3], NoEntryError, which speaks of a handler: True, of a path that should be absolute: False
#   load_pytree, relative: ValueError, which speaks of a path that should be absolute: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check orbax-checkpoint==0.12.8 jax==0.10.2 jaxlib==0.10.2
cd "$folder"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import os

import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

tree = {"a": jnp.arange(4.0)}
with ocp.training.Checkpointer(os.path.abspath("run")) as checkpointer:
    checkpointer.save_pytree(3, tree)
with ocp.training.Checkpointer(os.path.abspath("run")) as checkpointer:
    steps = [checkpoint.step for checkpoint in checkpointer.checkpoints]
    loaded = checkpointer.load_pytree(3)["a"].tolist() == [0, 1, 2, 3]
print(f"absolute: steps {steps}, {'loaded' if loaded else 'not loaded'}")


def refusal(function):
    try:
        function()
    except Exception as error:
        return type(error).__name__, "handler" in str(error).lower(), "should be absolute" in str(error).lower()
    return "none", False, False


with ocp.training.Checkpointer("run") as checkpointer:
    relative_steps = [checkpoint.step for checkpoint in checkpointer.checkpoints]
    relative = refusal(lambda: checkpointer.load_pytree(3))
direct = refusal(lambda: ocp.load_pytree("run/3"))
name, handler, path = relative
print(f"relative: steps {relative_steps}, {name}, which speaks of a handler: {handler}, of a path that should be absolute: {path}")
print(f"load_pytree, relative: {direct[0]}, which speaks of a path that should be absolute: {direct[2]}")
assert loaded and steps == relative_steps == [3], "this behaviour has changed"
assert relative == ("NoEntryError", True, False) and direct[0] == "ValueError" and direct[2], "this behaviour has changed"
PYTHON
