import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AbstractMesh

from mim_jax.ops.attention_statistics import tpu_sizes
from mim_jax.ops.attention_statistics.sums import PatchSums
from mim_jax.ops.attention_statistics.tpu_kernel import tpu_patch_sums
from tests.ops.patch_sums_reference import reference_patch_sums
from tests.tpu_compiler import SIMULATED, needs_the_compiler_for_tpus, printed

PATCH = (16, 14)
FIELDS = [name for name in PatchSums._fields if name != "aligned"]


def drawn(heads, grid, prefix, deviation=1.0, batch=1, features=8, seed=0):
    """Queries of patches and keys of all tokens whose scaled logits have the given standard deviation."""
    random = np.random.default_rng(seed)
    query = random.normal(size=(batch, heads, grid[0] * grid[1], features)) * deviation
    key = random.normal(size=(batch, heads, prefix + grid[0] * grid[1], features))
    return query.astype(np.float32), key.astype(np.float32)


def reference(query, key, grid, prefix, scale, bias=None):
    query, key = (np.asarray(x, np.float64) for x in (query, key))
    logits = np.einsum("bkme,bkne->bkmn", query, key) * np.asarray(scale, np.float64)
    return reference_patch_sums(logits if bias is None else logits + np.float64(bias), grid, prefix, PATCH)


def kernel(query, key, grid, prefix, scale, bias=None, interpret=True):
    return _kernel(query, key, scale, bias, grid, prefix, tpu_sizes.BLOCK_BYTES, interpret)


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _kernel(query, key, scale, bias, grid, prefix, block_bytes, interpret):
    settings = dict(grid=grid, prefix=prefix, patch_size=PATCH, interpret=interpret)
    return tpu_patch_sums(query, key, scale=scale, bias=bias, **settings)


def errors(found, expected):
    """Absolute errors by field; those of KL divergences between heads are the largest of every image."""
    absolute = {name: np.abs(np.asarray(getattr(found, name), np.float64) - getattr(expected, name)) for name in FIELDS}
    return absolute | {"divergence": np.abs(divergences(found) - divergences(expected)).max(axis=(1, 2))}


def divergences(sums):
    cross = np.asarray(sums.cross_entropy, np.float64)
    return cross - np.diagonal(cross, axis1=1, axis2=2)[..., None]


def assert_close(found, expected, tolerance=2e-6):
    for name in FIELDS:
        ours, theirs = np.asarray(getattr(found, name)), getattr(expected, name)
        assert ours.dtype == np.float32 and ours.shape == theirs.shape, name
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max(), err_msg=name)
    assert found.aligned is None


@pytest.mark.parametrize("heads, grid, prefix", [(3, (3, 4), 1), (2, (5, 3), 0), (2, (13, 11), 5), (1, (8, 16), 1)])
def test_the_kernel_gives_what_the_whole_matrix_gives(heads, grid, prefix):
    query, key = drawn(heads, grid, prefix, 3.0, batch=2)
    scale = np.linspace(0.2, 0.6, heads, dtype=np.float32).reshape(heads, 1, 1)
    assert_close(kernel(query, key, grid, prefix, scale), reference(query, key, grid, prefix, scale))


@pytest.mark.parametrize("leading", [(2,), (2, 1)])
def test_a_bias_may_be_shared_over_heads_or_images(leading):
    grid, prefix = (3, 4), 1
    query, key = drawn(2, grid, prefix, batch=2)
    bias = np.random.default_rng(1).normal(size=(*leading, 12, 13)).astype(np.float32)
    assert_close(kernel(query, key, grid, prefix, 0.5, bias), reference(query, key, grid, prefix, 0.5, bias))


def test_blocks_of_rows_add_up(monkeypatch):
    grid, prefix = (13, 11), 5
    query, key = drawn(2, grid, prefix, 4.0, batch=2)
    bias = np.random.default_rng(1).normal(size=(2, 2, 143, 148)).astype(np.float32)
    monkeypatch.setattr(tpu_sizes, "BLOCK_BYTES", 2**20)
    assert 1 < tpu_sizes.sizes_of(2, grid, prefix, PATCH, True).blocks < 10
    assert_close(kernel(query, key, grid, prefix, 0.5, bias), reference(query, key, grid, prefix, 0.5, bias))


@pytest.mark.parametrize("heads, side", [(3, 7), (12, 14), (12, 28), (16, 64), (24, 37)])
@pytest.mark.parametrize("biased", [False, True])
def test_blocks_cover_all_rows_with_less_than_eight_too_many_each(heads, side, biased):
    sizes = tpu_sizes.sizes_of(heads, (side, side), 1, PATCH, biased)
    assert sizes.rows % 8 == 0 and 0 <= sizes.rows * sizes.blocks - side * side < 8 * sizes.blocks


def test_memory_that_nobody_wrote_is_never_used(monkeypatch):
    grid, prefix = (3, 7), 1
    query, key = drawn(2, grid, prefix)
    bias = np.random.default_rng(1).normal(size=(2, 21, 22)).astype(np.float32)
    monkeypatch.setattr(tpu_sizes, "BLOCK_BYTES", 2**17)
    found = kernel(query, key, grid, prefix, 0.5, bias, interpret=pltpu.InterpretParams(uninitialized_memory="nan"))
    assert_close(found, reference(query, key, grid, prefix, 0.5, bias))


def test_errors_are_those_of_float32_however_sharp_attention_is():
    (query, key), deviations = drawn(2, (14, 14), 1, batch=3, features=64), np.array([1, 4, 12], np.float32)
    query = query * deviations.reshape(3, 1, 1, 1)
    largest = errors(kernel(query, key, (14, 14), 1, 0.125), reference(query, key, (14, 14), 1, 0.125))
    for name in ("mixture_entropy", "entropy_with_prefix", "received", "received_of_patches", "own", "own_of_patches"):
        assert largest[name].max() < 1e-6, name
    assert (largest["divergence"] < [1e-6, 4e-6, 2e-5]).all()
    assert largest["spatial"][..., 0].max() < 3e-5


def test_bfloat16_rounds_queries_and_keys_and_nothing_else():
    (query, key), deviations = drawn(2, (14, 14), 1, batch=3, features=64), np.array([1, 4, 12], np.float32)
    query = query * deviations.reshape(3, 1, 1, 1)
    rounded = [jnp.asarray(x, jnp.bfloat16) for x in (query, key)]
    found = kernel(*rounded, (14, 14), 1, 0.125)
    assert_close(found, reference(*rounded, (14, 14), 1, 0.125))
    largest = errors(found, reference(query, key, (14, 14), 1, 0.125))
    assert (largest["entropy_with_prefix"].max(axis=1) < [3e-4, 3e-3, 5e-3]).all()
    assert (largest["divergence"] < [3e-4, 3e-3, 0.03]).all()
    assert (largest["spatial"][..., 0].max(axis=1) < [0.006, 0.07, 0.15]).all()


def test_zero_queries_attend_uniformly():
    query, key = drawn(2, (14, 14), 1, deviation=0.0, batch=3, features=64)
    sums = kernel(query, key, (14, 14), 1, 1.0)
    np.testing.assert_allclose(sums.cross_entropy, np.log(196), rtol=1e-6)
    np.testing.assert_allclose(sums.mixture_entropy, np.log(196), rtol=1e-6)
    np.testing.assert_allclose(sums.entropy_with_prefix, np.log(197), rtol=1e-6)
    np.testing.assert_allclose(sums.spatial[..., 2:4], 0, atol=1e-4)
    np.testing.assert_allclose(sums.received, 1 / 197, rtol=1e-6)


def test_patches_are_told_apart_where_a_prefix_token_takes_everything():
    grid, prefix = (3, 4), 1
    query, key = drawn(2, grid, prefix)
    bias = np.zeros((12, 13), np.float32)
    without = kernel(query, key, grid, prefix, 0.5, bias)
    bias[:, 0] = 200
    found = kernel(query, key, grid, prefix, 0.5, bias)
    np.testing.assert_array_equal(found.received[..., 0], 1)
    np.testing.assert_array_equal(found.own, 0)
    for name in ("cross_entropy", "mixture_entropy", "own_of_patches", "received_of_patches", "spatial"):
        np.testing.assert_array_equal(getattr(found, name), getattr(without, name), err_msg=name)
    assert np.abs(found.entropy_with_prefix).max() < 1e-6


def test_patches_that_a_bias_keeps_apart_get_nothing():
    grid, prefix = (3, 4), 0
    query, key = drawn(2, grid, prefix)
    half = np.arange(12) // 6
    bias = np.where(half[:, None] == half, 0.0, -100.0).astype(np.float32)
    found = kernel(query, key, grid, prefix, 0.5, bias)
    assert_close(found, reference(query, key, grid, prefix, 0.5, bias))
    assert (found.cross_entropy < 6).all()


def test_queries_of_all_tokens_are_refused():
    _, key = drawn(1, (2, 3), 1)
    with pytest.raises(ValueError, match="have 6 patch queries and 7 keys, not 7 and 7"):
        tpu_patch_sums(jnp.asarray(key), jnp.asarray(key), grid=(2, 3), prefix=1, patch_size=PATCH, scale=1.0)


def test_images_that_do_not_spread_evenly_over_devices_are_refused():
    query, key = (jnp.asarray(x) for x in drawn(1, (2, 3), 1, batch=6))
    settings = dict(grid=(2, 3), prefix=1, patch_size=PATCH, scale=1.0, interpret=True)
    with pytest.raises(ValueError, match="6 images cannot be spread evenly over 4 devices"):
        tpu_patch_sums(query, key, mesh=AbstractMesh((2, 2, 2), ("data", "fsdp", "tensor")), **settings)


SHARDED = """
from functools import partial
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from mim_jax.ops.attention_statistics.tpu_kernel import tpu_patch_sums

mesh = Mesh(np.array(jax.devices()).reshape(2, 2, 2), ("data", "fsdp", "tensor"))
images, whole = (NamedSharding(mesh, PartitionSpec(axes)) for axes in (("data", "fsdp"), None))
random = np.random.default_rng(0)
draw = lambda *shape: random.normal(size=shape).astype(np.float32)


def sums(mesh, query, key, bias):
    settings = dict(grid=(2, 3), prefix=1, patch_size=(4, 4), scale=0.5, interpret=True)
    return tpu_patch_sums(query, key, bias=bias, mesh=mesh, **settings)


def sums_of_windows(mesh, *arrays):
    return jax.vmap(partial(sums, mesh), in_axes=(1, 1, 0))(*arrays)


def check(function, arrays, shardings):
    arrays = jax.device_put(arrays, shardings)
    program = jax.jit(partial(function, mesh)).lower(*arrays).compile()
    expected = jax.jit(partial(function, None))(*map(np.asarray, arrays))
    for found, wanted in zip(jax.tree.leaves(program(*arrays)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
        assert all(4 * shard.data.size == found.size for shard in found.addressable_shards)
    for collective in ("all-gather", "all-to-all", "all-reduce", "collective-permute"):
        assert collective not in program.as_text(), collective


check(sums, (draw(8, 2, 6, 4), draw(8, 2, 7, 4), draw(8, 1, 6, 7)), (images, images, images))
check(sums_of_windows, (draw(4, 3, 2, 6, 4), draw(4, 3, 2, 7, 4), draw(3, 2, 6, 7)), (images, images, whole))
print(len(jax.devices()))
"""


def test_every_device_does_the_images_that_it_has():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    assert printed(SHARDED, XLA_FLAGS=flags) == ["8"]


COMPILE = """
import re, sys
import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from mim_jax.ops.attention_statistics.tpu_kernel import tpu_patch_sums

chip, chips, heads, side, width, dtype, biased = *sys.argv[1:2], *map(int, sys.argv[2:6]), *sys.argv[6:]
devices = topologies.get_topology_desc(chip, platform="tpu").devices[:chips]
mesh = Mesh(np.array(devices).reshape(-1, min(chips, 2), 1), ("data", "fsdp", "tensor"))
images, whole = (NamedSharding(mesh, PartitionSpec(axes)) for axes in (("data", "fsdp"), None))
patches = side * side
arrays = [jax.ShapeDtypeStruct((8, heads, patches + prefix, width), dtype, sharding=images) for prefix in (0, 1)]
if biased == "True":
    arrays.append(jax.ShapeDtypeStruct((heads, patches, patches + 1), "float32", sharding=whole))


def sums(query, key, bias=None):
    settings = dict(grid=(side, side), prefix=1, patch_size=(16, 16), scale=0.125, mesh=mesh if chips > 1 else None)
    with jax.default_matmul_precision("highest"):  # as `attention_statistics` has it
        return tpu_patch_sums(query, key, bias=bias, **settings)


program = jax.jit(sums).lower(*arrays).compile()
text = program.as_text()
assert program.output_shardings.received.is_equivalent_to(images, 3)
for collective in ("all-gather", "all-to-all", "all-reduce", "collective-permute"):
    assert collective not in text, collective
kernels = [line for line in text.splitlines() if "tpu_custom_call" in line]
print(*(re.search(r"= \\(f32\\[(\\d+),", kernel).group(1) for kernel in kernels))
"""

SHAPES = {
    "ViT-B/16 at 224": (12, 14, 64, "bfloat16", False),
    "ViT-B/16 at 224, float32 and bias": (12, 14, 64, "float32", True),
    "ViT-H/14 at 224": (16, 16, 80, "bfloat16", True),
    "ViT-L/16 at 448": (16, 28, 64, "bfloat16", True),
    "ViT-B/16 at 1024": (12, 64, 64, "bfloat16", False),
    "ViT-L/16 at 1024, float32 and bias": (16, 64, 64, "float32", True),
}


def images_of_compiled_kernels(chip, chips, shape):
    """Images that one device does in every kernel of the compiled program, of 8 images on so many chips."""
    return printed(COMPILE, chip, chips, *SHAPES[shape], **SIMULATED)


@needs_the_compiler_for_tpus
@pytest.mark.parametrize("chip", ["v5e:2x2", "v6e:2x2"])
@pytest.mark.parametrize("shape", [pytest.param(x, marks=[pytest.mark.slow] * (i > 0)) for i, x in enumerate(SHAPES)])
def test_the_compiler_for_tpus_takes_the_kernel(shape, chip):
    assert images_of_compiled_kernels(chip, 1, shape) == ["8"]


@needs_the_compiler_for_tpus
def test_every_chip_gets_its_images():
    assert images_of_compiled_kernels("v5e:2x2", 4, "ViT-B/16 at 224") == ["2"]
