"""Frozen ViT-B/16 features and probes on them: images/s beside plain PyTorch, and what fifty probes cost over one.

    python benchmarks/probing.py --batch_size=16

A process for every contender, one batch of each a round, in turn, as in `against_torch.py`: `torch` and `torch_fused`
(if torch is installed) and `features` encode; `one` encodes and updates one linear probe of the class token; `fifty`
encodes and updates fifty: the class token, the mean, AbMILP, EP with 8 queries and the maximum, of the last two blocks,
with five learning rates each.
"""

import argparse
import importlib.util
import multiprocessing
import os
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from against_torch import Advance, measure, sample

from mim_jax.models.build import initial_parameters, make_encoder
from mim_jax.models.flops import encoder_flops
from mim_jax.models.presets import encoder_config
from mim_jax.probing.bank import HeadOptions, ProbeBank
from mim_jax.probing.reading import FrozenEncoder, Reading, split_inputs

POOLINGS = ("cls", "mean", "max", "abmilp", "ep(queries=8)")
READINGS = {
    "features": (Reading(12, "cls"),),
    "one": (Reading(12, "cls"),),
    "fifty": tuple(Reading(layer, pooling) for layer in (11, 12) for pooling in POOLINGS),
}
RATES = {"one": (0.1,), "fifty": (0.01, 0.03, 0.1, 0.3, 1.0)}
CLASSES = 1000


def ours(contender: str, images: np.ndarray) -> Advance:
    """One batch: encoded, and its probes updated."""
    config = encoder_config("vit_base_patch16")
    frozen = FrozenEncoder(make_encoder(config), config, READINGS[contender])
    parameters = initial_parameters(config, jax.random.key(0))
    split, fixed = split_inputs(frozen.readings, frozen.shapes(parameters))
    encode = jax.jit(lambda tree, images: split(frozen.tokens(tree, images)))
    batch = jnp.asarray(images)
    if contender == "features":
        return lambda: jax.block_until_ready(encode(parameters, batch))
    rates = RATES[contender]
    bank = ProbeBank(frozen.readings, fixed, rates, (0.0,) * len(rates), "lars", lambda step: 1.0, HeadOptions(CLASSES))
    shapes = jax.eval_shape(split, frozen.shapes(parameters))
    state, step = jax.jit(lambda: bank.initial_state(0, shapes))(), jax.jit(bank.step, donate_argnums=0)
    labels = jnp.arange(len(images)) % CLASSES

    def advance() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(step(state, encode(parameters, batch), labels))

    return advance


def theirs(contender: str, images: np.ndarray) -> Advance:
    """One batch, encoded in PyTorch."""
    import torch
    from torch_vit import MAE, ViTSize

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = MAE(ViTSize(), fused=contender == "torch_fused").eval()
    data = torch.tensor(np.moveaxis(images, -1, 1).copy())

    def advance() -> None:
        with torch.inference_mode():
            model.encode(data)

    return advance


def serve(connection: Any, contender: str, batch_size: int) -> None:
    """What the process of a contender does."""
    images = np.random.default_rng(0).standard_normal((batch_size, 224, 224, 3), np.float32)
    advance = (theirs if contender.startswith("torch") else ours)(contender, images)
    for _ in range(2):
        advance()
    connection.send(None)
    while connection.recv():
        connection.send(sample(advance))


def start(contender: str, batch_size: int) -> Any:
    """A connection to the new process of a contender that is ready."""
    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe()
    context.Process(target=serve, args=(other, contender, batch_size), daemon=True).start()
    mine.recv()
    return mine


def main() -> None:
    """Parses the flags, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    contenders = ["features", "one", "fifty"]
    if importlib.util.find_spec("torch"):
        contenders += ["torch", "torch_fused"]
    samples = measure({name: start(name, arguments.batch_size) for name in contenders}, arguments.rounds)
    flops = encoder_flops(encoder_config("vit_base_patch16")) * arguments.batch_size
    for name, own in samples.items():
        seconds = statistics.median(one.seconds for one in own)
        others = statistics.median(one.others for one in own)
        print(
            f"{name}: {1e3 * seconds:.0f} ms ({1e3 * min(own).seconds:.0f}-{1e3 * max(own).seconds:.0f}), "
            f"{arguments.batch_size / seconds:.2f} images/s, {flops / seconds / 1e9:.0f} GFLOP/s, others {others:.2f} s"
        )
    for name, reference in [("fifty", "one"), *(("features", name) for name in contenders[3:])]:
        ratios = [a.seconds / b.seconds for a, b in zip(samples[name], samples[reference])]
        print(f"{name} takes {statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f}) x {reference}")


if __name__ == "__main__":
    main()
