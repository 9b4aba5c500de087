"""Seconds from the start of a new process to its first training step, blocks unrolled and scanned.

    python benchmarks/first_step.py --models=mae_vit_large_patch16,simmim_swin_large_window12_192

A process for each model and form, one image, no compilation cache. Prints the seconds for imports and parameters, for
tracing, for compiling, and for the first step, and the CPU seconds of it all.
"""

import argparse
import os
import subprocess
import sys
import time

FORMS = ("scan", "unrolled")


def child(name: str, form: str) -> None:
    """Makes a state, traces, compiles and runs one step, and prints the seconds of each."""
    start = time.perf_counter()
    import jax
    import jax.numpy as jnp
    import optax

    from mim_jax.models.blocks import Computation
    from mim_jax.models.stacking import stack_blocks
    from mim_jax.pretraining.mae import mae_preset
    from mim_jax.pretraining.simmim import simmim_preset
    from mim_jax.training.state import initial_state, make_train_step

    preset = mae_preset if name.startswith("mae") else simmim_preset
    objective = preset(name, computation=Computation(scan_blocks=form == "scan"))
    optimizer = optax.adamw(1e-4, b2=0.95, weight_decay=0.05)
    arrange = stack_blocks if form == "scan" else lambda parameters: parameters
    state = jax.jit(lambda: initial_state(objective, optimizer, 0, arrange=arrange))()
    batch = {"image": jnp.zeros((1, *objective.encoder_config.image_size, 3))}
    step = make_train_step(objective, optimizer, lambda batch: batch, lambda step: 1e-4, seed=0)
    times = [time.perf_counter()]
    lowered = jax.jit(step, donate_argnums=0).lower(jax.block_until_ready(state), batch)
    times.append(time.perf_counter())
    compiled = lowered.compile()
    times.append(time.perf_counter())
    jax.block_until_ready(compiled(state, batch))
    times.append(time.perf_counter())
    seconds = [after - before for before, after in zip([start, *times], times)]
    parts = ", ".join(f"{part} {value:.1f}" for part, value in zip(("state", "trace", "compile", "step"), seconds))
    print(f"{name} {form}: {sum(seconds):.1f} s ({parts}), CPU {time.process_time():.1f} s", flush=True)


def main() -> None:
    """Parses the flags and starts a process for every combination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mae_vit_base_patch16,mae_vit_large_patch16,simmim_swin_large_window12_192")
    parser.add_argument("--form", choices=FORMS, help="measure one model and form in this process")
    arguments = parser.parse_args()
    if arguments.form:
        return child(arguments.models, arguments.form)
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    for name in arguments.models.split(","):
        for form in FORMS:
            command = [sys.executable, __file__, f"--models={name}", f"--form={form}"]
            subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
