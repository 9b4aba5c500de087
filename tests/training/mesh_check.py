"""Run as a script on eight fake devices: the losses of a few steps on a given mesh, as JSON."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from mim_jax.models.blocks import Computation
from mim_jax.models.vit import VisionTransformerConfig
from mim_jax.pretraining.mae import DecoderConfig, MaskedAutoencoder
from mim_jax.training.optimizers import adamw
from mim_jax.training.sharding import batch_sharding, global_batch, make_mesh, state_shardings
from mim_jax.training.state import initial_state, make_train_step


def setup():
    config = VisionTransformerConfig((16, 16), (4, 4), 3, width=32, depth=1, num_heads=4)
    objective = MaskedAutoencoder(config, DecoderConfig(16, 1, 2), 0.5, computation=Computation())
    schedule = lambda step: 1e-2
    optimizer = adamw(schedule, betas=(0.9, 0.95), weight_decay=0.05, clip_norm=1.0)
    return objective, optimizer, schedule, jax.jit(lambda: initial_state(objective, optimizer, 0))()


def run(mesh, accumulation, objective, optimizer, schedule, state):
    step = make_train_step(objective, optimizer, lambda batch: batch, schedule, seed=0, accumulation=accumulation)
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 16, 3)).astype(np.float32)
    shardings = state_shardings(state, mesh)
    state = jax.device_put(state, shardings)
    step = jax.jit(step, in_shardings=(shardings, batch_sharding(mesh)), out_shardings=(shardings, None))
    metrics = []
    for batch in images:
        state, measured = step(state, global_batch({"image": batch}, mesh))
        metrics.append([float(measured["loss"]), float(measured["gradient_norm"])])
    kernel = state.parameters["encoder"]["blocks"]["0"]["attn"]["qkv"]["kernel"]
    sharded = [leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.optimizer)]
    return {
        "metrics": metrics,
        "sum": float(sum(jnp.abs(leaf).sum() for leaf in jax.tree.leaves(state.parameters))),
        "kernel_shard": list(kernel.addressable_shards[0].data.shape),
        "replicated_optimizer_leaves": sum(sharded),
    }


if __name__ == "__main__":
    parts = setup()
    print(json.dumps([run(make_mesh(*mesh), accumulation, *parts) for *mesh, accumulation in json.loads(sys.argv[1])]))
