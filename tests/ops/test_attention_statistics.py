"""Attention distance and entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from mim_jax.ops.attention_statistics import (
    attention_distance,
    attention_entropy,
    attention_statistics,
    patch_distances,
    statistics_of_logits,
    uniform_attention_distance,
    uniform_attention_entropy,
)
from tests.golden_cases import arrays, case

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


def queries_and_keys(tokens: int, spread: float = 1.0) -> tuple[jax.Array, jax.Array]:
    query, key = spread * np.random.default_rng(tokens).standard_normal((2, 2, 3, tokens, 8))
    return jnp.asarray(query, jnp.float32), jnp.asarray(key, jnp.float32)


def reference(logits: np.ndarray, grid: tuple[int, int], prefix: int, patch: tuple[int, int]) -> list[np.ndarray]:
    """Distance, entropy and entropy with prefix by renormalised probabilities, in float64."""
    whole = scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)
    part = whole[..., prefix:, prefix:]
    part = part / part.sum(-1, keepdims=True)
    centres = np.stack(np.meshgrid(*(np.arange(g) * p for g, p in zip(grid, patch)), indexing="ij"), -1).reshape(-1, 2)
    distance = np.linalg.norm(centres[:, None] - centres, axis=-1)
    entropies = [scipy.special.entr(p).sum(-1).mean(-1) for p in (part, whole)]
    return [(part * distance).sum(-1).mean(-1), *entropies]


def test_statistics_equal_the_float64_reference_maps():
    golden, settings = arrays("attention_map_statistics"), case("attention_map_statistics")
    images, blocks, heads, tokens, _ = golden["logits"].shape
    logits = jnp.asarray(golden["logits"].reshape(-1, heads, tokens, tokens), jnp.float32)
    grid = (settings["grid"], settings["grid"])
    ours = statistics_of_logits(logits, grid=grid, prefix=1, patch_size=settings["patch_size"])
    for values, name in zip(ours, ["attention_distance", "entropy", "entropy_with_cls"], strict=True):
        np.testing.assert_allclose(values.reshape(images, blocks, heads), golden[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(("grid", "patch", "distance", "entropy", "with_prefix"), UNIFORM)
def test_uniform_attention_has_its_closed_form(grid, patch, distance, entropy, with_prefix):
    assert uniform_attention_distance(grid, patch) == pytest.approx(distance, rel=1e-5, abs=6e-4)
    assert uniform_attention_entropy(grid) == pytest.approx(entropy, abs=5e-4)
    assert uniform_attention_entropy(grid, 1) == pytest.approx(with_prefix, abs=5e-4)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_constant_logits_give_the_uniform_values(prefix: int):
    grid, patch = (3, 5), (4, 2)
    query = jnp.zeros((2, 3, prefix + 15, 8))
    ours = attention_statistics(query, query, grid=grid, prefix=prefix, patch_size=patch)
    expected = [
        uniform_attention_distance(grid, patch),
        uniform_attention_entropy(grid),
        uniform_attention_entropy(grid, prefix),
    ]
    for values, value in zip(ours, expected, strict=True):
        np.testing.assert_allclose(values, np.full((2, 3), value), rtol=1e-6)


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize(("grid", "patch"), [((4, 4), (16, 16)), ((3, 5), (4, 2)), ((1, 7), (8, 8))])
def test_statistics_equal_renormalised_probabilities(grid, patch, prefix: int):
    query, key = queries_and_keys(prefix + grid[0] * grid[1], spread=2.0)
    bias = np.random.default_rng(1).standard_normal((3, query.shape[2], query.shape[2])).astype(np.float32)
    ours = attention_statistics(query, key, grid=grid, prefix=prefix, patch_size=patch, scale=0.5, bias=bias)
    logits = 0.5 * np.einsum("bkne,bkme->bknm", query, key, dtype=np.float64) + bias
    for values, expected in zip(ours, reference(logits, grid, prefix, patch), strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_scale_defaults_to_the_root_of_the_head_width():
    query, key = queries_and_keys(9)
    layout = dict(grid=(3, 3), prefix=0, patch_size=1)
    given = attention_statistics(query, key, scale=8**-0.5, **layout)
    np.testing.assert_array_equal(np.stack(attention_statistics(query, key, **layout)), np.stack(given))


def test_permuting_heads_permutes_the_statistics():
    query, key = queries_and_keys(10)
    layout, order = dict(grid=(3, 3), prefix=1, patch_size=16), np.asarray([2, 0, 1])
    before = attention_statistics(query, key, **layout)
    after = attention_statistics(query[:, order], key[:, order], **layout)
    np.testing.assert_allclose(np.stack(after), np.stack(before)[:, :, order], rtol=1e-6)


def test_attention_to_oneself_has_no_distance_and_no_entropy():
    logits = 1e4 * jnp.eye(12)[None, None]
    assert float(attention_distance(logits, grid=(3, 4), patch_size=16)[0, 0]) == 0
    assert float(attention_entropy(logits)[0, 0]) == 0


def test_all_attention_on_the_prefix_leaves_patch_attention_exact():
    logits = jnp.zeros((1, 1, 10, 10)).at[..., 0].set(200.0)
    ours = statistics_of_logits(logits, grid=(3, 3), prefix=1, patch_size=16)
    assert float(ours.attention_entropy[0, 0]) == pytest.approx(np.log(9), rel=1e-6)
    assert float(ours.attention_entropy_with_prefix[0, 0]) == pytest.approx(0, abs=1e-6)


def test_large_common_offsets_do_not_cost_digits():
    query, key = queries_and_keys(16)
    logits = np.einsum("bkne,bkme->bknm", query, key)
    shifted = attention_entropy(jnp.asarray(logits + 1000.0))
    np.testing.assert_allclose(shifted, attention_entropy(jnp.asarray(logits)), atol=1e-4)


def test_masked_keys_count_as_absent():
    logits = jnp.zeros((1, 1, 4, 6)).at[..., 4:].set(-jnp.inf)
    assert float(attention_entropy(logits)[0, 0]) == pytest.approx(np.log(4), rel=1e-6)


def test_bfloat16_queries_are_reduced_in_float32():
    query, key = queries_and_keys(16)
    layout = dict(grid=(4, 4), prefix=0, patch_size=16)
    half = attention_statistics(query.astype(jnp.bfloat16), key.astype(jnp.bfloat16), **layout)
    assert all(values.dtype == jnp.float32 for values in half)
    np.testing.assert_allclose(np.stack(half), np.stack(attention_statistics(query, key, **layout)), rtol=5e-3)


def test_patch_distances_are_pixels_between_centres():
    expected = [[0, 2, 4, 4.472136], [2, 0, 4.472136, 4], [4, 4.472136, 0, 2], [4.472136, 4, 2, 0]]
    np.testing.assert_allclose(patch_distances((2, 2), (4, 2)), expected, rtol=1e-6)


def test_wrong_number_of_tokens_is_refused():
    query, key = queries_and_keys(10)
    with pytest.raises(ValueError, match="10 tokens are not 0 prefix tokens and a grid of 3 x 3"):
        attention_statistics(query, key, grid=(3, 3), prefix=0, patch_size=16)
