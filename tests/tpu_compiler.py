"""The compiler for TPUs in a process of its own; no TPU is needed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SIMULATED = {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": None,
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # else one process at a time, of all on this machine
}
"""Environment of a process that compiles for TPUs that are not here; None takes a variable away."""

needs_the_compiler_for_tpus = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the compiler for TPUs (libtpu) is not installed"
)


def printed(script, *arguments, timeout=300, **changes):
    """What a script prints in a process of its own with other environment variables; None takes one away."""
    environment = {name: value for name, value in (os.environ | changes).items() if value is not None}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()
