"""Statistics of the attention of one block."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from mim_jax.ops.attention_statistics import (
    AttentionStatistics,
    attention_statistics,
    statistics_of_logits,
    uniform_attention_distance,
    uniform_attention_entropy,
)
from mim_jax.ops.attention_statistics.xla import rows_of_a_block, xla_patch_sums
from tests.golden_cases import arrays, case
from tests.ops.patch_sums_reference import reference_patch_sums

# grid, patch size, distance in px, entropy in nats, entropy with one prefix token
UNIFORM = [
    ((14, 14), 16, 116.492, 5.2781, 5.2832),
    ((16, 16), 14, 116.565, 5.5452, 5.5491),
    ((28, 28), 16, 233.443, 6.6644, 6.6657),
    ((28, 28), 8, 116.722, 6.6644, 6.6657),
    ((64, 64), 16, 533.856, 8.3178, 8.3180),
    ((12, 12), 16, 99.753, 4.9698, 4.9767),
    ((6, 6), 1, 3.0803, 3.584, 3.611),
    ((7, 7), 1, 3.6095, 3.892, 3.912),
    ((8, 8), 1, 4.1365, 4.159, 4.174),
    ((24, 24), 1, 12.503, 6.356, 6.358),
]
GRIDS = [((4, 4), (16, 16)), ((3, 5), (4, 2)), ((1, 7), (8, 8))]


def queries_and_keys(tokens: int, spread: float = 1.0) -> tuple[jax.Array, jax.Array]:
    query, key = spread * np.random.default_rng(tokens).standard_normal((2, 2, 3, tokens, 8))
    return jnp.asarray(query, jnp.float32), jnp.asarray(key, jnp.float32)


def flat(statistics: AttentionStatistics) -> dict[str, np.ndarray]:
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(statistics)}


def assert_same(one: AttentionStatistics, other: AttentionStatistics, **tolerance: float) -> None:
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], err_msg=name, **tolerance)


def golden_statistics() -> tuple[AttentionStatistics, dict[str, np.ndarray], tuple[int, ...]]:
    golden, settings = arrays("attention_map_statistics"), case("attention_map_statistics")
    images, blocks, heads, tokens, _ = golden["logits"].shape
    logits = jnp.asarray(golden["logits"].reshape(-1, heads, tokens, tokens), jnp.float32)
    grid = (settings["grid"], settings["grid"])
    ours = statistics_of_logits(logits, grid=grid, prefix=1, patch_size=settings["patch_size"])
    return ours, golden, (images, blocks, heads)


def test_statistics_equal_the_float64_reference_maps():
    ours, golden, shape = golden_statistics()
    patches = ours.heads["patches"]
    for name, theirs in {
        "attention_distance": "attention_distance",
        "attention_entropy": "entropy",
        "normalised_mutual_information": "normalised_mutual_information",
    }.items():
        np.testing.assert_allclose(patches[name].reshape(shape), golden[theirs], rtol=1e-5, atol=1e-7, err_msg=name)
    # The reference averages over all queries, the class token too.
    with_class = (
        36 * patches["attention_entropy_with_prefix"] + ours.heads["class"]["attention_entropy_with_prefix"]
    ) / 37
    np.testing.assert_allclose(with_class.reshape(shape), golden["entropy_with_cls"], rtol=1e-5)
    divergence = ours.kl_between_heads.reshape(*shape, shape[-1])
    np.testing.assert_allclose(divergence, golden["kl_between_heads"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("grid", "patch", "distance", "entropy", "with_prefix"), UNIFORM)
def test_uniform_attention_has_its_closed_form(grid, patch, distance, entropy, with_prefix):
    assert uniform_attention_distance(grid, patch) == pytest.approx(distance, rel=1e-5, abs=6e-4)
    assert uniform_attention_entropy(grid) == pytest.approx(entropy, abs=5e-4)
    assert uniform_attention_entropy(grid, 1) == pytest.approx(with_prefix, abs=5e-4)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_constant_logits_give_the_uniform_values(prefix: int):
    grid, patch, patches = (3, 5), (4, 2), 15
    query = jnp.zeros((2, 3, prefix + patches, 8))
    ours = attention_statistics(query, query, grid=grid, prefix=prefix, patch_size=patch)
    expected = {
        "attention_distance": uniform_attention_distance(grid, patch),
        "attention_entropy": uniform_attention_entropy(grid),
        "attention_entropy_with_prefix": uniform_attention_entropy(grid, prefix),
        "row_offset": 0,
        "column_offset": 0,
        "local_mass_7x7": np.minimum(np.abs(np.subtract.outer(np.arange(5), np.arange(5))) <= 3, 1).mean(),
        "normalised_mutual_information": 0,
        "self_attention": 1 / (prefix + patches),
        "self_attention_against_patches": 1 / patches,
        "largest_attention_received": 1 / patches,
        "kl_between_heads": 0,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(ours.heads["patches"][name], np.full((2, 3), value), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(
        ours.attention_received, np.full((2, 3, prefix + patches), 1 / (prefix + patches)), rtol=1e-6
    )
    np.testing.assert_allclose(ours.layer["jensen_shannon_between_heads"], [0, 0], atol=5e-6)
    if prefix:
        first = ours.heads["class"]
        np.testing.assert_allclose(first["self_attention_against_patches"], np.full((2, 3), 1 / patches), rtol=1e-6)
        np.testing.assert_allclose(first["attention_entropy"], np.full((2, 3), np.log(patches)), rtol=1e-6)
    assert ("registers" in ours.heads) == (prefix > 1)


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize(("grid", "patch"), GRIDS)
def test_sums_equal_the_float64_reference_whole_and_streamed(grid, patch, prefix: int):
    query, key = queries_and_keys(prefix + grid[0] * grid[1], spread=2.0)
    bias = np.random.default_rng(1).standard_normal((3, query.shape[2] - prefix, query.shape[2])).astype(np.float32)
    scale = np.asarray([0.5, 1.0, 0.25], np.float32)[:, None, None]
    logits = scale * np.einsum("bkne,bkme->bknm", query[:, :, prefix:], key, dtype=np.float64) + bias
    expected = reference_patch_sums(logits, grid, prefix, patch)
    for rows in {1, grid[0]}:
        run = jax.jit(functools.partial(xla_patch_sums, rows=rows, grid=grid, prefix=prefix, patch_size=patch))
        ours = run(query[:, :, prefix:], key, scale=scale, bias=jnp.asarray(bias))
        for name, values, value in zip(ours._fields, ours, expected, strict=True):
            np.testing.assert_allclose(values, value, rtol=1e-5, atol=2e-6 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize(
    ("spread", "entropy", "distance", "information", "divergence"),
    [(1, 1e-6, 5e-7, 1e-6, 2e-6), (4, 1e-6, 5e-7, 1e-6, 5e-6), (12, 1e-6, 5e-7, 1e-6, 1e-5)],
)
def test_errors_against_float64_stay_within_the_table(spread, entropy, distance, information, divergence):
    """Means over heads at 197 tokens, float32, and bfloat16 queries and keys within five times the bounds for those.

    The bounds are what a CPU with AVX-512 gives; AVX2 alone sums products in longer chains (entropy: 3.7 times as far).
    """
    generator = np.random.default_rng(spread)
    query, key = generator.standard_normal((2, 1, 4, 197, 64))
    query = query * spread
    # What float32 and bfloat16 hold of them is the question, not how they were rounded.
    query, key = (np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32) for x in (query, key))
    logits = np.einsum("bkne,bkme->bknm", query, key, dtype=np.float64) / 8
    expected = reference_patch_sums(logits[:, :, 1:], (14, 14), 1, (16, 16))
    diagonal = np.diagonal(expected.cross_entropy, axis1=1, axis2=2)
    received = scipy.special.entr(expected.received_of_patches).sum(-1)
    wanted = {
        "attention_entropy": (diagonal, entropy),
        "attention_distance": (expected.spatial[..., 0], distance),
        "normalised_mutual_information": ((received - diagonal) / np.sqrt(np.log(196) * received), information),
        "kl_between_heads": ((expected.cross_entropy - diagonal[..., None]).sum(-1) / 3, divergence),
    }
    for dtype in (jnp.float32, jnp.bfloat16):
        for implementation in ("dense", "streamed"):
            ours = attention_statistics(
                jnp.asarray(query, dtype),
                jnp.asarray(key, dtype),
                grid=(14, 14),
                prefix=1,
                patch_size=16,
                implementation=implementation,
            )
            for name, (value, bound) in wanted.items():
                error = np.abs(np.asarray(ours.heads["patches"][name]).mean() - value.mean())
                assert error < 5 * bound * max(1, abs(value.mean())), (name, dtype, implementation, error)


def test_implementations_agree():
    query, key = queries_and_keys(17)
    layout = dict(grid=(4, 4), prefix=1, patch_size=16)
    dense = attention_statistics(query, key, implementation="dense", **layout)
    assert_same(attention_statistics(query, key, implementation="streamed", **layout), dense, rtol=1e-5, atol=1e-6)
    kernel = attention_statistics(query, key, implementation="tpu_kernel", **layout)
    assert_same(kernel, dense, rtol=1e-5, atol=2e-6)


def test_large_images_are_streamed_by_whole_grid_rows():
    assert rows_of_a_block((14, 14), 12, 197) == 14
    assert rows_of_a_block((64, 64), 12, 4097) == 1
    assert rows_of_a_block((40, 30), 16, 1201) == 2


def test_streaming_needs_memory_for_one_block_only():
    def temporary(side: int) -> int:
        shape = jax.ShapeDtypeStruct((1, 2, side * side, 8), jnp.float32)
        run = jax.jit(lambda q, k: attention_statistics(q, k, grid=(side, side), implementation="streamed"))
        return run.lower(shape, shape).compile().memory_analysis().temp_size_in_bytes

    # Twice the side is 16 times the logits, but 8 times a row of queries times the keys.
    assert temporary(32) < 10 * temporary(16)
    assert temporary(32) < 4 * 2 * 32**4


def test_scale_defaults_to_the_root_of_the_head_width():
    query, key = queries_and_keys(9)
    layout = dict(grid=(3, 3), prefix=0, patch_size=1)
    assert_same(attention_statistics(query, key, **layout), attention_statistics(query, key, scale=8**-0.5, **layout))


def test_scaling_logits_sharpens_every_head():
    query, key = queries_and_keys(16)
    layout = dict(grid=(4, 4), prefix=0, patch_size=1)
    soft, sharp = (attention_statistics(query, key, scale=scale, **layout) for scale in (0.1, 1.0))
    assert (sharp.attention_entropy < soft.attention_entropy).all()
    # Any scale applied to the queries instead is the same thing.
    assert_same(attention_statistics(0.1 * query, key, scale=1.0, **layout), soft, rtol=1e-5, atol=1e-6)


def test_permuting_heads_permutes_the_statistics():
    query, key = queries_and_keys(10)
    layout, order = dict(grid=(3, 3), prefix=1, patch_size=16), np.asarray([2, 0, 1])
    before = attention_statistics(query, key, **layout)
    after = attention_statistics(query[:, order], key[:, order], **layout)
    for group, statistics in before.heads.items():
        for name, values in statistics.items():
            np.testing.assert_allclose(after.heads[group][name], values[:, order], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        after.kl_between_heads, before.kl_between_heads[:, order][:, :, order], rtol=1e-5, atol=1e-6
    )
    for name, values in before.layer.items():
        np.testing.assert_allclose(after.layer[name], values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("apart", [-np.inf, -1e4])
def test_masked_keys_count_as_absent(apart: float):
    """A grid with a row of patches that nobody sees has the statistics of the grid without it."""
    query, key = queries_and_keys(13)
    logits = jnp.einsum("bkne,bkme->bknm", query, key)
    masked = logits.at[..., 9:].set(apart)
    ours = statistics_of_logits(masked, grid=(4, 3), prefix=1)
    np.testing.assert_allclose(ours.attention_received[..., 10:], 0)
    kept = masked[..., 1:, 1:9]
    expected = scipy.special.entr(scipy.special.softmax(np.asarray(kept, np.float64), -1)).sum(-1).mean(-1)
    np.testing.assert_allclose(ours.attention_entropy, expected, rtol=1e-5)
    assert all(np.isfinite(values).all() for values in flat(ours).values())


def test_attention_to_oneself_has_no_distance_and_no_entropy():
    ours = statistics_of_logits(1e4 * jnp.eye(12)[None, None], grid=(3, 4), patch_size=16)
    patches = {name: float(values[0, 0]) for name, values in ours.heads["patches"].items()}
    assert patches["attention_distance"] == patches["attention_entropy"] == 0
    assert patches["self_attention"] == patches["local_mass_3x3"] == 1
    assert patches["normalised_mutual_information"] == pytest.approx(1, rel=1e-5)


def test_attention_to_one_patch_shares_no_information():
    logits = jnp.zeros((1, 1, 9, 9)).at[..., 4].set(1e4)
    patches = statistics_of_logits(logits, grid=(3, 3)).heads["patches"]
    assert float(patches["normalised_mutual_information"][0, 0]) == 0
    assert float(patches["largest_attention_received"][0, 0]) == 1


def test_a_head_that_looks_one_patch_to_the_right_says_so():
    rows, columns = np.divmod(np.arange(12), 4)
    target = rows * 4 + np.minimum(columns + 1, 3)
    logits = jnp.asarray(1e4 * np.eye(12)[target], jnp.float32)[None, None]
    ours = statistics_of_logits(logits, grid=(3, 4), patch_size=(16, 8))
    assert float(ours.heads["patches"]["column_offset"][0, 0]) == pytest.approx(8 * 0.75)
    assert float(ours.heads["patches"]["row_offset"][0, 0]) == 0
    assert float(ours.aligned_attention[0, 0, 2, 4]) == pytest.approx(0.75)
    assert "attention_distance_tokens" not in ours.heads["patches"]  # patches that are not square have no such unit


def test_all_attention_on_the_prefix_leaves_patch_attention_exact():
    logits = jnp.zeros((1, 1, 10, 10)).at[..., 0].set(200.0)
    patches = statistics_of_logits(logits, grid=(3, 3), prefix=1, patch_size=16).heads["patches"]
    assert float(patches["attention_entropy"][0, 0]) == pytest.approx(np.log(9), rel=1e-6)
    assert float(patches["attention_entropy_with_prefix"][0, 0]) == pytest.approx(0, abs=1e-6)
    assert float(patches["attention_to_class"][0, 0]) == pytest.approx(1)


def test_large_common_offsets_do_not_cost_digits():
    query, key = queries_and_keys(16)
    logits = jnp.einsum("bkne,bkme->bknm", query, key)
    shifted = statistics_of_logits(logits + 1000.0, grid=(4, 4))
    np.testing.assert_allclose(
        shifted.attention_entropy, statistics_of_logits(logits, grid=(4, 4)).attention_entropy, atol=1e-4
    )


def test_one_head_has_no_divergence_to_others():
    query, key = (x[:, :1] for x in queries_and_keys(9))
    ours = attention_statistics(query, key, grid=(3, 3))
    assert "kl_between_heads" not in ours.heads["patches"]
    np.testing.assert_allclose(ours.layer["jensen_shannon_between_heads"], [0, 0], atol=5e-6)


def test_wrong_number_of_tokens_is_refused():
    query, key = queries_and_keys(10)
    with pytest.raises(ValueError, match="10 queries and 10 keys are not 0 prefix tokens and a grid of 3 x 3"):
        attention_statistics(query, key, grid=(3, 3), prefix=0, patch_size=16)


def test_unknown_implementation_is_refused():
    query, key = queries_and_keys(9)
    with pytest.raises(ValueError, match="unknown implementation 'cuda'; known are dense, streamed, tpu_kernel"):
        attention_statistics(query, key, grid=(3, 3), implementation="cuda")
