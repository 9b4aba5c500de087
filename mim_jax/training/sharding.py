"""Meshes, and where parameters and batches lie on them."""

import math

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from mim_jax.errors import InputError
from mim_jax.training.trees import Rules, Tree, first_match, map_with_names

AXES = ("data", "fsdp", "tensor")

AnyMesh = Mesh | AbstractMesh
"""A mesh of devices, or only its shape."""

PARAMETER_RULES: Rules = (
    (r"qkv/kernel$", ("fsdp", None, "tensor", None)),
    (r"qkv/bias$", (None, "tensor", None)),
    (r"attn/proj/kernel$", ("tensor", None, "fsdp")),
    (r"fc1/kernel$", ("fsdp", "tensor")),
    (r"fc1/bias$", ("tensor",)),
    (r"fc2/kernel$", ("tensor", "fsdp")),
    (r"(projector|predictor)/layer0/kernel$", ("fsdp", "tensor")),
    (r"(projector|predictor)/layer\d+/kernel$", ("tensor", "fsdp")),
    (r"w12/kernel$", ("fsdp", None, "tensor")),
    (r"w12/bias$", (None, "tensor")),
    (r"w3/kernel$", ("tensor", "fsdp")),
    (r"reduction/kernel$", ("fsdp", None)),
    (r"patch_embed/kernel$", (None, None, None, "fsdp")),
    (r"decoder/kernel$", ("fsdp", None, None, None)),
    (r"(embed|pred|head)/kernel$", ("fsdp", None)),
    (r"", ()),
)
"""Mesh axis of every axis of a parameter; blocks that are stacked for a scan get one more axis in front."""


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """Mesh over all devices; a `data` of -1 takes what the other axes leave.

    Raises InputError if the axes do not multiply to the number of devices.
    """
    devices = jax.device_count()
    shape = (devices // (fsdp * tensor) if data == -1 else data, fsdp, tensor)
    if math.prod(shape) != devices or 0 in shape:
        named = " x ".join(f"{axis} {size}" for axis, size in zip(AXES, shape))
        raise InputError(f"mesh {named} does not cover {devices} devices; change config.efficiency.mesh")
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def imagined_mesh(data: int, fsdp: int, tensor: int) -> AbstractMesh:
    """The shape of a mesh whose devices are not here."""
    return AbstractMesh((data, fsdp, tensor), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_sharding(mesh: AnyMesh) -> NamedSharding:
    """The first axis of a batch is divided over the axes `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def replicated(mesh: AnyMesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(batch_size: int, mesh: AnyMesh, accumulation: int = 1) -> None:
    """Raises InputError if the batch cannot be divided over devices and micro-batches."""
    parts = mesh.shape["data"] * mesh.shape["fsdp"] * accumulation
    if batch_size % parts:
        micro = f" in {accumulation} micro-batches" if accumulation > 1 else ""
        raise InputError(
            f"batch size {batch_size} is not divisible by {parts} (batch shards{micro}); "
            f"the nearest that fits is {max(round(batch_size / parts), 1) * parts}"
        )


def state_shardings(tree: Tree, mesh: AnyMesh, rules: Rules = PARAMETER_RULES) -> Tree:
    """A sharding for every leaf of a state or a tree of parameters (shapes are enough), by the rules.

    An axis that the mesh does not divide stays whole.
    """
    return map_with_names(lambda name, leaf: NamedSharding(mesh, _spec(name, leaf.shape, mesh, rules)), tree)


def _spec(name: str, shape: tuple[int, ...], mesh: AnyMesh, rules: Rules) -> PartitionSpec:
    axes = first_match(rules, name)
    if "/stacked/" in name and axes:
        axes = (None, *axes)
    if len(axes) != len(shape):
        axes = (None,) * len(shape)
    return PartitionSpec(*(axis if axis and size % mesh.shape[axis] == 0 else None for axis, size in zip(axes, shape)))


def global_batch(batch: dict[str, np.ndarray], mesh: AnyMesh) -> dict[str, jax.Array]:
    """One global array, divided over the mesh, of every process's part of a batch."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def bytes_per_device(tree: Tree, shardings: Tree) -> int:
    """Bytes that one device holds of a tree of shapes under these shardings."""
    sizes = jax.tree.map(
        lambda leaf, sharding: math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize, tree, shardings
    )
    return sum(jax.tree.leaves(sizes))
