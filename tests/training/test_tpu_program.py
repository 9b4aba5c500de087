"""What the chips of a TPU pod exchange in a training step."""

import pytest

from tests.tpu_compiler import SIMULATED, needs_the_compiler_for_tpus, printed

COMPILE = """
import re, sys
import jax
import optax
from jax.experimental import topologies
from jax.sharding import AxisType

from mim_jax.models.blocks import Computation
from mim_jax.training.sharding import AXES, batch_sharding, state_shardings
from mim_jax.training.state import initial_state, make_train_step
from tests.pretraining.test_gradients import OBJECTIVES, batch_of

name, fsdp = sys.argv[1], int(sys.argv[2])
jax.default_backend = lambda: "tpu"  # as the program would be told on a pod
devices = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices
mesh = jax.make_mesh((4 // fsdp, fsdp, 1), AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)
objective, optimizer = OBJECTIVES[name](Computation(dtype="bfloat16")), optax.adamw(1e-3)
state = jax.eval_shape(lambda: initial_state(objective, optimizer, 0))
place = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
shardings = state_shardings(state, mesh)
batch = jax.eval_shape(lambda: batch_of(name))
inputs = jax.tree.map(lambda leaf: place(leaf, batch_sharding(mesh)), batch)
step = make_train_step(objective, optimizer, lambda batch: batch, lambda step: 1e-3, seed=0)
step = jax.jit(step, out_shardings=(shardings, None))
text = step.lower(jax.tree.map(place, state, shardings), inputs).compile().as_text()
for line in text.splitlines():
    reduction = re.search(r"= (.*?) (all-reduce|reduce-scatter)(-start)?\\(", line)
    if reduction:
        print(*{kind for kind in re.findall(r"(\\w+)\\[[\\d,]*\\]", reduction[1])})
"""


CASES = [
    ("MAE with every token, factor and table", 1),
    ("MAE with every token, factor and table", 2),
    ("SimMIM on a ViT", 1),
    ("SimMIM on Swin", 1),
    ("SimMIM on Swin V2", 1),
    ("LUT", 1),
    ("supervised with two tokens", 1),
]
"""Objective, and chips over which its parameters are spread, of the four."""


@needs_the_compiler_for_tpus
@pytest.mark.parametrize("name, fsdp", [pytest.param(*c, marks=[pytest.mark.slow] * (c != CASES[0])) for c in CASES])
def test_no_gradient_is_summed_over_chips_in_bfloat16(name, fsdp):
    kinds = printed(COMPILE, name, fsdp, timeout=500, **SIMULATED)
    assert "f32" in kinds and "bf16" not in kinds
