"""Training steps of MAE ViT-B/16, SimMIM Swin-B and LUT ViT-B/16, beside the same in plain PyTorch, in one run.

    python benchmarks/against_torch.py --workload=mae --batch_size=16 --contenders=unrolled,scan,torch

Every contender is a process of its own, so that none disturbs another's memory; one step of each a round, in turn, so
that whatever else the machine does meets all of them. A ratio is the median of the ratios of the rounds. Prints
images/s, model FLOP/s from the analytic count, its share of the best matrix product of the run, the CPU seconds of a
step, and those that other processes took meanwhile (all cores): samples with much of that are worth little.
`unrolled-gelu` is the unrolled program without the written derivative of `gelu`, and so on.

The allocator is tuned, for both sides, by the environment, before the process starts:

    env GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=34359738368:\
glibc.malloc.trim_threshold=34359738368:glibc.malloc.arena_max=1 python benchmarks/against_torch.py ...
"""

import argparse
import contextlib
import functools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mim_jax.models import attention as models_attention
from mim_jax.models import layers
from mim_jax.models.blocks import Computation
from mim_jax.models.stacking import stack_blocks
from mim_jax.ops import attention
from mim_jax.pretraining.lut import lut_preset
from mim_jax.pretraining.mae import mae_preset
from mim_jax.pretraining.simmim import simmim_preset
from mim_jax.training.state import initial_state, make_train_step

WORKLOADS: dict[str, Callable[[Computation], Any]] = {
    "mae": lambda how: mae_preset("mae_vit_base_patch16", normalise_target=True, computation=how),
    "simmim": lambda how: simmim_preset("simmim_swin_base_window6_192", computation=how),
    "lut": lambda how: lut_preset("lut_vit_base_patch16", normalise_target=True, computation=how),
}


def plain_affine(x: jax.Array, kernel: jax.Array, bias: jax.Array | None, inputs: int) -> jax.Array:
    """`affine` by its definition."""
    axes = tuple(range(x.ndim - inputs, x.ndim)), tuple(range(inputs))
    outcome = jax.lax.dot_general(x, kernel.astype(x.dtype), (axes, ((), ())), preferred_element_type=jnp.float32)
    return (outcome if bias is None else outcome + bias).astype(x.dtype)


PLAIN: dict[str, tuple[Any, Callable[..., Any]]] = {
    "affine": (layers, plain_affine),
    "gelu": (layers, functools.partial(jax.nn.gelu, approximate=False)),
    "layer_norm": (layers, layers.layer_norm.fun),
    "split_heads": (models_attention, attention.split_heads.fun),
    "softmax": (attention, lambda logits, dtype: jax.nn.softmax(logits, axis=-1).astype(dtype)),
}
"""Functions with a written derivative: the module that uses it, and the same with JAX's own derivative."""

PRODUCT_SIZE, PRODUCTS = 1024, 10

Advance = Callable[[], Any]
"""Makes one step, and returns when it is done."""


class Sample(NamedTuple):
    """One step: seconds, CPU seconds of this process, CPU seconds of all others meanwhile."""

    seconds: float
    cpu: float
    others: float


def random_images(workload: str, batch_size: int) -> np.ndarray:
    """Images with channels last; pairs of views for LUT."""
    side = 192 if workload == "simmim" else 224
    shape = (batch_size, *((2,) if workload == "lut" else ()), side, side, 3)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def ours(workload: str, images: np.ndarray, dtype: str, variant: str) -> Advance:
    """A step of this project; the variant is "unrolled" or "scan", perhaps without some written derivative."""
    form, *without = variant.split("-")
    objective = WORKLOADS[workload](Computation(dtype, scan_blocks=form == "scan"))
    optimizer = optax.adamw(1e-4, b2=0.95, weight_decay=0.05)
    arrange = stack_blocks if form == "scan" else lambda parameters: parameters
    state, batch = initial_state(objective, optimizer, 0, arrange=arrange), {"image": jnp.asarray(images)}
    step = make_train_step(objective, optimizer, lambda batch: batch, lambda step: 1e-4, seed=0, total_steps=10**6)
    with automatic_derivatives(without):
        step = jax.jit(step, donate_argnums=0).lower(state, batch).compile()

    def advance() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(step(state, batch))

    return advance


@contextlib.contextmanager
def automatic_derivatives(names: list[str]) -> Iterator[None]:
    """Leaves the derivatives of some functions to JAX."""
    written = {name: getattr(PLAIN[name][0], name) for name in names}
    for name in names:
        setattr(PLAIN[name][0], name, PLAIN[name][1])
    yield
    for name, function in written.items():
        setattr(PLAIN[name][0], name, function)


def theirs(workload: str, images: np.ndarray, dtype: str, variant: str) -> Advance:
    """A step in PyTorch; the variant is "torch" or "torch_fused"."""
    import torch
    from torch_models import make_step

    torch.set_num_threads(os.cpu_count())
    _, step = make_step(workload, fused=variant == "torch_fused", bfloat16=dtype == "bfloat16")
    data = torch.tensor(np.moveaxis(images, -1, -3).copy())
    if workload == "simmim":
        drawn = (torch.rand(len(data), 48 * 48) < 0.6).float()
        return lambda: step(data, drawn)
    return lambda: step(data, torch.rand(len(data), 14 * 14))


def serve(connection: Any, workload: str, batch_size: int, dtype: str, variant: str) -> None:
    """What the process of a contender does: makes a step for every message, and answers with the sample."""
    make = {"torch": theirs, "torch_fused": theirs, "product": product}.get(variant, ours)
    advance = make(workload, random_images(workload, batch_size), dtype, variant)
    for _ in range(2):  # compiles, and lets the heap grow
        advance()
    connection.send(None)
    while connection.recv():
        connection.send(sample(advance))


def measure(processes: dict[str, Any], rounds: int) -> dict[str, list[Sample]]:
    """The samples of every contender, from connections to their processes."""
    samples: dict[str, list[Sample]] = {name: [] for name in processes}
    for _ in range(rounds):
        for name, connection in processes.items():
            connection.send(True)
            samples[name].append(connection.recv())
    for connection in processes.values():
        connection.send(False)
    return samples


def start(arguments: argparse.Namespace, variant: str) -> Any:
    """A connection to the new process of a contender that is ready."""
    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe()
    given = other, arguments.workload, arguments.batch_size, arguments.dtype, variant
    context.Process(target=serve, args=given, daemon=True).start()
    mine.recv()
    return mine


def sample(advance: Advance) -> Sample:
    """One step."""
    busy, cpu, start = machine_cpu(), time.process_time(), time.perf_counter()
    advance()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return Sample(seconds, cpu, max(machine_cpu() - busy - cpu, 0.0))


def machine_cpu() -> float:
    """CPU seconds that all processes have used since the machine started (Linux)."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, interrupts, soft, stolen, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")


def product(_workload: str, _images: np.ndarray, _dtype: str, _variant: str) -> Advance:
    """Ten large float32 matrix products on all cores."""
    matrix, multiply = jnp.ones((PRODUCT_SIZE, PRODUCT_SIZE)), jax.jit(jnp.matmul)

    def advance() -> None:
        for _ in range(PRODUCTS):
            multiply(matrix, matrix).block_until_ready()

    return advance


def report(samples: dict[str, list[Sample]], batch_size: int, flops_per_image: float) -> None:
    """Prints a table; speeds relative to the last contender."""
    best = PRODUCTS * 2 * PRODUCT_SIZE**3 / min(samples.pop("product")).seconds
    print(f"best matrix product {best / 1e9:.0f} GFLOP/s, {flops_per_image / 1e9:.1f} GFLOP an image")
    reference = list(samples)[-1]
    for name, own in samples.items():
        seconds, cpu, others = (statistics.median(column) for column in zip(*own))
        flops = flops_per_image * batch_size / seconds
        print(f"{name}: {1e3 * seconds:.0f} ms ({1e3 * min(own).seconds:.0f}-{1e3 * max(own).seconds:.0f}), ", end="")
        print(
            f"{batch_size / seconds:.2f} images/s, {flops / 1e9:.0f} GFLOP/s ({flops / best:.1%} of the product), ",
            end="",
        )
        print(f"CPU {cpu:.2f} s, others {others:.2f} s", end="")
        for field in ("seconds", "cpu"):
            ratios = [getattr(b, field) / getattr(a, field) for a, b in zip(own, samples[reference])]
            print(
                f", by {field} {statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f}) x {reference}",
                end="",
            )
        print()


def main() -> None:
    """Parses the flags, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=list(WORKLOADS), default="mae")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--contenders", default="unrolled,scan,torch", help="the ratios are to the last one")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()

    tuned = "tuned" if "trim_threshold" in os.environ.get("GLIBC_TUNABLES", "") else "as it is"
    print(
        f"{arguments.workload}, batch {arguments.batch_size}, {arguments.dtype}, {os.cpu_count()} cores, malloc {tuned}"
    )
    processes = {name: start(arguments, name) for name in ["product", *arguments.contenders.split(",")]}
    samples = measure(processes, arguments.rounds)
    report(samples, arguments.batch_size, WORKLOADS[arguments.workload](Computation()).flops_per_image())


if __name__ == "__main__":
    main()
