"""Run as a script: saves step after step until it is killed, printing a line after each."""

import itertools
import sys
from pathlib import Path

import jax.numpy as jnp

from mim_jax.training.checkpoints import Checkpoints

if __name__ == "__main__":
    checkpoints = Checkpoints(Path(sys.argv[1]))
    for step in itertools.count((checkpoints.latest or 0) + 1):
        checkpoints.save(step, {"w": jnp.full((500, 500), step, jnp.float32)})
        print(step, flush=True)
