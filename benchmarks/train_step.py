"""Time and speed of a training step of any configuration, beside the peak of the machine in the same run.

    python benchmarks/train_step.py --config=configs/pretrain/mae_vit_b16.py --batch_size=8 --dtype=float32

Random images, no input pipeline. Prints the seconds to make the state and to compile the step, then the median (and
range) of the time of a step, images/s, model FLOP/s from the analytic count, and the share of the peak (of the
data sheet, or of a large matrix product measured here).
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mim_jax.experiments import plan
from mim_jax.experiments.learner import Learner
from mim_jax.experiments.objectives import make_objective
from mim_jax.experiments.optimization import make_schedule
from mim_jax.experiments.settings import resolve
from mim_jax.training.sharding import global_batch, make_mesh
from mim_jax.training.throughput import device_peak


def load_learner(arguments: argparse.Namespace) -> Learner:
    """The learner of the configuration file, on all devices."""
    specification = importlib.util.spec_from_file_location("config", arguments.config)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    config = module.get_config()
    config.optimization.batch_size = arguments.batch_size
    config.efficiency.dtype = arguments.dtype
    config.efficiency.scan_blocks = arguments.scan
    config.efficiency.remat = arguments.remat
    settings = resolve(config)
    objective, preprocessing = make_objective(settings), plan.make_preprocessing(settings)
    schedule = make_schedule(settings, settings.data.train_examples or arguments.batch_size)
    return Learner(settings, objective, preprocessing, schedule, make_mesh())


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """The result, when it has arrived, and the seconds that took."""
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - start


def main() -> None:
    """Parses the flags, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--remat", default="none")
    parser.add_argument("--scan", action="store_true", help="scan over blocks")
    parser.add_argument("--steps", type=int, default=7)
    arguments = parser.parse_args()

    learner = load_learner(arguments)
    height, width = learner.preprocessing.image_size
    views = (2,) if learner.settings.method.name == "lut" else ()
    shape = (arguments.batch_size, *views, height, width, learner.preprocessing.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    labels = np.zeros(arguments.batch_size, np.int32)
    batch = global_batch({"image": images, "label": labels}, learner.mesh)
    state, making = timed(learner.initial)
    step = learner.make_step()
    (state, _), compiling = timed(step, state, batch)
    times = []
    for _ in range(arguments.steps):
        (state, _), seconds = timed(step, state, batch)
        times.append(seconds)
    report(learner, making, compiling, times)


def report(learner: Learner, making: float, compiling: float, times: list[float]) -> None:
    """Prints what was measured."""
    efficiency, batch_size = learner.settings.efficiency, learner.settings.optimization.batch_size
    device = jax.local_devices()[0]
    peak = device_peak(device, efficiency.dtype)
    median = statistics.median(times)
    flops = learner.objective.flops_per_image() * batch_size / median
    print(f"{jax.device_count()} x {device.device_kind}, {efficiency.dtype}, batch {batch_size}, jax {jax.__version__}")
    print(f"state made in {making:.1f} s, first step (compiled) in {compiling:.1f} s")
    low, high = 1e3 * min(times), 1e3 * max(times)
    print(f"step {1e3 * median:.1f} ms ({low:.1f}-{high:.1f}), {batch_size / median:.2f} images/s")
    share = flops / (peak.flops * jax.device_count())
    print(f"{flops / 1e9:,.1f} GFLOP/s, {share:.1%} of the {peak.source} peak of {peak.flops / 1e9:,.0f} a device")


if __name__ == "__main__":
    main()
