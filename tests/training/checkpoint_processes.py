"""Run as a script in each of two processes: saves arrays that neither holds whole, reads them back, prunes."""

import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from mim_jax.training.checkpoints import Checkpoints

VALUES = np.arange(48, dtype=np.float32).reshape(8, 6)


def layout(*spec):
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    return NamedSharding(mesh, PartitionSpec(*spec))


def global_array(values, sharding):
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def main(folder, address, process):
    jax.distributed.initialize(address, 2, process)
    with Checkpoints(folder, keep_last=1, best_metric="loss", best_mode="min") as checkpoints:
        assert checkpoints.latest is None
        for step, loss in ((1, 0.5), (2, 0.1), (3, 0.9)):
            number = global_array(np.asarray(step, np.int32), layout())
            state = {"w": global_array(VALUES * step, layout("data", "model")), "n": number}
            checkpoints.save(step, state, metrics={"loss": loss}, metadata={"process": 0})
            checkpoints.save(step, state)
        assert (checkpoints.latest, checkpoints.best, checkpoints.steps()) == (3, 2, [2, 3])
        target = {
            "w": jax.ShapeDtypeStruct((8, 6), jax.numpy.float32, sharding=layout("model")),
            "n": jax.ShapeDtypeStruct((), jax.numpy.int32, sharding=layout()),
        }
        restored = checkpoints.restore(target, step=2)
        for shard in restored["w"].addressable_shards:
            assert np.array_equal(shard.data, VALUES[shard.index] * 2)
        assert not restored["w"].is_fully_addressable and int(restored["n"]) == 2
        assert checkpoints.metadata() == {"process": 0}
        checkpoints.discard_after(2)
        assert checkpoints.latest == 2
    print("same")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
