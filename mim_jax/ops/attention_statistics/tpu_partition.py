"""Every device computes on the images that it holds.

XLA cannot look into a kernel: it would bring images that lie on several devices to each of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import ArrayMapping, SdyShardingRule, custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec


def on_every_device(compute: Callable[..., Any], of_images: Sequence[bool], *arrays: Any) -> Any:
    """`compute(*arrays)` under jit, by every device on its part of the images; under vmap as well.

    The caller needs to know no mesh. The images of a device are those of the first array of images, as XLA lays it out
    when it compiles; the other arrays follow.

    Args:
        compute: does with an image what it does, whichever others are there; images are the first axis of all results.
        of_images: whether the first axis of an array is that of images; of the others every device gets all.
        arrays: arguments of `compute`.
    """
    call = custom_vmap(_partitioned(compute, of_images))

    @call.def_vmap
    def of_many(_: int, mapped: Sequence[bool], *arrays: Any) -> tuple[Any, Any]:
        axes = [int(images) if is_mapped else None for images, is_mapped in zip(of_images, mapped)]
        behind_images = [jnp.moveaxis(array, 0, 1) if axis else array for array, axis in zip(arrays, axes)]
        results = on_every_device(jax.vmap(compute, axes, out_axes=1), of_images, *behind_images)
        return jax.tree.map(lambda result: jnp.moveaxis(result, 1, 0), results), jax.tree.map(lambda _: True, results)

    return call(*arrays)


def _partitioned(compute: Callable[..., Any], of_images: Sequence[bool]) -> Any:
    call = custom_partitioning(lambda *arrays: compute(*arrays))

    def partition(mesh: Any, arrays: Sequence[Any], results: Any) -> tuple[Any, ...]:
        devices = arrays[of_images.index(True)].sharding.spec[0]
        parts, whole = (NamedSharding(mesh, PartitionSpec(axes)) for axes in (devices, None))
        given = tuple(parts if images else whole for images in of_images)
        return mesh, compute, jax.tree.map(lambda _: parts, results), given

    def rule(_: Any, arrays: Sequence[Any], results: Sequence[Any]) -> SdyShardingRule:
        given = [_axes(f"array{i}", array.rank, images) for i, (array, images) in enumerate(zip(arrays, of_images))]
        return SdyShardingRule(
            tuple(given), tuple(_axes(f"result{i}", result.rank, True) for i, result in enumerate(results))
        )

    call.def_partition(partition, sharding_rule=rule)
    return call


def _axes(name: str, rank: int, images: bool) -> ArrayMapping:
    """Names of the axes of an array; it shares that of images alone with others."""
    return ArrayMapping(*("images" if images and axis == 0 else f"{name}_{axis}" for axis in range(rank)))
