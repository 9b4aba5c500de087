"""Run as a script on eight fake devices: saves on one mesh and reads on others, bit for bit."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mim_jax.training.checkpoints import Checkpoints


def placed(mesh_shape, spec):
    auto = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh(mesh_shape, ("data", "model"), axis_types=auto, devices=jax.devices()[: np.prod(mesh_shape)])
    return NamedSharding(mesh, PartitionSpec(*spec))


def main(folder):
    values = {"w": np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32), "n": np.arange(3, dtype=np.int32)}
    values["h"] = np.asarray(jnp.asarray(values["w"], jnp.bfloat16))
    layout = {"w": placed((8, 1), ("data",)), "h": placed((4, 2), ("model", "data")), "n": placed((8, 1), ())}
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, jax.tree.map(jax.device_put, values, layout))
        for shape in ((2, 4), (1, 2), (1, 1)):
            specs = {"w": ("data", "model"), "h": (None, "model"), "n": ()}
            sharding = {name: placed(shape, spec) for name, spec in specs.items()}
            target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), values, sharding)
            restored = checkpoints.restore(target)
            for name, value in values.items():
                assert restored[name].sharding == sharding[name], name
                assert np.asarray(restored[name]).tobytes() == value.tobytes(), name
    print("same")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
