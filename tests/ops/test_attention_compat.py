"""The numbers that the code of other papers gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from mim_jax.ops.attention_compat import CODES, COMPAT, compat_names, compat_statistics
from mim_jax.ops.attention_statistics import statistics_of_logits
from tests.golden_cases import arrays, case, relative_error

LAYOUT = {"grid": (3, 5), "prefix": 1, "patch_size": (4, 2)}


def random_logits(tokens: int, spread: float = 2.0) -> jax.Array:
    return jnp.asarray(spread * np.random.default_rng(tokens).standard_normal((2, 3, tokens, tokens)), jnp.float32)


def maps(logits: jax.Array) -> np.ndarray:
    return scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)


def distances(grid: tuple[int, int], step: tuple[float, float]) -> np.ndarray:
    centres = np.stack(np.meshgrid(*(np.arange(g) * s for g, s in zip(grid, step)), indexing="ij"), -1).reshape(-1, 2)
    return np.linalg.norm(centres[:, None] - centres, axis=-1)


def from_maps(attention: np.ndarray, side: int, patch_size: int) -> dict[str, np.ndarray]:
    """Statistics of maps `[image, block, head, query, key]`, by image, block and head."""
    with np.errstate(divide="ignore"):
        logits = jnp.asarray(np.log(attention).reshape(-1, *attention.shape[2:]), jnp.float32)
    ours = compat_statistics(logits, grid=(side, side), prefix=1, patch_size=patch_size)
    return {name: np.asarray(values).reshape(attention.shape[:3]) for name, values in ours.items()}


def test_distance_and_mutual_information_equal_those_of_cl_vs_mim():
    golden, settings = arrays("clmim_attention_statistics"), case("clmim_attention_statistics")
    ours = from_maps(golden["attention_maps"], settings["grid"], settings["patch_size"])
    for name, theirs in [("attention_distance", "distance"), ("normalised_mutual_information", "nmi")]:
        values = ours[f"cl-vs-mim/{name}"]
        assert relative_error(values, golden[theirs]) <= 1e-5, name
        assert relative_error(values.mean(axis=(0, 2)), golden[f"{theirs}_per_layer"]) <= 1e-5, name


def test_class_and_patch_statistics_equal_those_of_beyond_cls():
    golden = arrays("beyond_cls_attention_statistics")
    ours = from_maps(golden["attention_maps"], 8, 8)
    own, own_adjusted, from_class, to_class, entropy = golden["statistics"].astype(np.float64)
    expected = {
        "cls_cls_attention": own[..., 0],
        "pos_self_attention": own[..., 1:].mean(-1),
        "cls_cls_attention_adj_for_cls": own_adjusted[..., 0],
        "pos_self_attention_adj_for_cls": own_adjusted[..., 1:].mean(-1),
        "cls_pos_attention": from_class[..., 1:].mean(-1),
        "pos_cls_attention": to_class[..., 1:].mean(-1),
        "cls_pos_entropy": entropy[..., 0],
        "pos_pos_entropy": entropy[..., 1:].mean(-1),
    }
    assert {f"beyond-cls/{name}" for name in expected} == {name for name in ours if name.startswith("beyond-cls/")}
    for name, values in expected.items():
        np.testing.assert_allclose(ours[f"beyond-cls/{name}"], values, rtol=1e-5, err_msg=name)


def test_the_codes_differ_from_the_exact_statistics_as_told():
    golden, settings = arrays("attention_map_statistics"), case("attention_map_statistics")
    side, patch = settings["grid"], settings["patch_size"]
    attention = maps(golden["logits"])
    ours = from_maps(attention, side, patch)
    distance, entropy = golden["attention_distance"], golden["entropy"]
    for name, expected in {
        "cl-vs-mim/attention_distance": distance,
        "walmer/attention_distance": distance / (patch * (side - 1)),
        "mae-lite/attention_distance": distance * 14 / patch,
        "cl-vs-mim/normalised_mutual_information": golden["normalised_mutual_information"],
    }.items():
        np.testing.assert_allclose(ours[name], expected, rtol=2e-5, err_msg=name)
    for name in ("beyond-cls/pos_pos_entropy", "mae-lite/attention_entropy"):
        short = entropy - ours[name]  # the epsilons take about their size, by key
        assert short.min() > 0 and short.max() < 1.5e-6 * side**2, name
    assert (ours["vit/attention_distance"] < distance).all()


def test_distance_without_renormalising_is_short_by_the_share_of_the_class_token():
    patches, share = random_logits(15), 0.8
    column = jax.nn.logsumexp(patches, axis=-1) + np.log(share / (1 - share))
    logits = jnp.zeros((2, 3, 16, 16)).at[..., 1:, 1:].set(patches).at[..., 1:, 0].set(column)
    ours = compat_statistics(logits, **LAYOUT)
    np.testing.assert_allclose(
        ours["vit/attention_distance"], (1 - share) * ours["cl-vs-mim/attention_distance"], rtol=1e-5
    )


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_other_grids_and_prefixes_follow_the_definitions(prefix: int):
    grid, patch = (3, 5), (4, 2)
    logits = random_logits(prefix + 15)
    ours = compat_statistics(logits, grid=grid, prefix=prefix, patch_size=patch)
    rows = maps(logits)[..., prefix:, :]
    patches = rows[..., prefix:]
    normalised = patches / patches.sum(-1, keepdims=True)
    expected = {
        "vit/attention_distance": (patches * distances(grid, patch)).sum(-1).mean(-1),
        "cl-vs-mim/attention_distance": (normalised * distances(grid, patch)).sum(-1).mean(-1),
        "walmer/attention_distance": (normalised * distances(grid, (1 / 2, 1 / 4))).sum(-1).mean(-1),
        "walmer/position_deviation": patches.std(-2, ddof=1).mean(-1),
        "mae-lite/attention_distance": (normalised * distances(grid, (14, 14))).sum(-1).mean(-1),
        "mae-lite/attention_entropy": -(normalised * np.log(normalised + 1e-6)).sum(-1).mean(-1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(ours[name], values, rtol=2e-5, err_msg=name)


def test_the_key_of_index_1_is_the_first_patch_and_not_the_class_token():
    logits = random_logits(16)
    attention = maps(logits)
    ours = compat_statistics(logits, **LAYOUT)
    np.testing.assert_allclose(
        ours["walmer/spatial_cls_attention_at_index_1"], attention[..., 1:, 1].mean(-1), rtol=1e-5
    )
    np.testing.assert_allclose(ours["beyond-cls/pos_cls_attention"], attention[..., 1:, 0].mean(-1), rtol=1e-5)


def test_uniform_attention_has_the_entropy_that_the_epsilon_leaves():
    ours = compat_statistics(jnp.zeros((1, 1, 197, 197)), grid=(14, 14), prefix=1, patch_size=16)
    # The epsilon in the logarithm takes 1.96e-4 from ln 196 = 5.278115, that in the sum another 4e-6.
    for name in ("beyond-cls/cls_pos_entropy", "beyond-cls/pos_pos_entropy", "mae-lite/attention_entropy"):
        assert float(ours[name][0, 0]) == pytest.approx(5.277919, abs=6e-6), name
    assert float(ours["cl-vs-mim/attention_distance"][0, 0]) == pytest.approx(116.492, abs=1e-3)
    assert float(ours["walmer/attention_distance"][0, 0]) == pytest.approx(0.5601, abs=1e-4)
    assert float(ours["cl-vs-mim/normalised_mutual_information"][0, 0]) == pytest.approx(0, abs=1e-6)


def test_queries_that_see_only_the_class_token_count_as_uniform_as_zero_or_as_their_patches_say():
    logits = jnp.zeros((1, 1, 16, 16)).at[..., 0].set(500.0)
    ours = {name: float(values[0, 0]) for name, values in compat_statistics(logits, **LAYOUT).items()}
    uniform = distances((3, 5), (4, 2)).mean()
    assert ours["cl-vs-mim/attention_distance"] == pytest.approx(uniform, rel=1e-5)
    assert ours["walmer/attention_distance"] == ours["vit/attention_distance"] == 0
    assert ours["beyond-cls/pos_pos_entropy"] == 0
    assert ours["mae-lite/attention_entropy"] == pytest.approx(np.log(15), abs=2e-5)


def test_the_table_names_every_statistic_and_every_code():
    ours = compat_statistics(random_logits(16), **LAYOUT)
    assert set(ours) == set(COMPAT)
    assert compat_names() == tuple(CODES) == ("vit", "cl-vs-mim", "walmer", "beyond-cls", "mae-lite")
    assert all(name.startswith(f"{entry.code}/") and entry.code in CODES for name, entry in COMPAT.items())
    assert {entry.query for entry in COMPAT.values()} == {"class", "patches"}


def test_every_statistic_has_a_counterpart_among_ours_and_is_equal_where_the_table_says_so():
    logits = random_logits(16)
    heads, theirs = statistics_of_logits(logits, **LAYOUT).heads, compat_statistics(logits, **LAYOUT)
    for name, entry in COMPAT.items():
        ours = heads[entry.query][entry.statistic]
        if entry.difference == "the same number":
            np.testing.assert_allclose(theirs[name], ours, rtol=1e-5, err_msg=name)
    assert sum(entry.difference == "the same number" for entry in COMPAT.values()) == 4


def test_statistics_of_the_class_token_are_left_out_where_there_is_none():
    ours = compat_statistics(random_logits(15), grid=(3, 5), prefix=0, patch_size=(4, 2))
    missing = {name for name, entry in COMPAT.items() if "class" in (entry.query, entry.statistic.split("_")[-1])}
    assert set(COMPAT) - set(ours) == missing


def test_bfloat16_logits_are_reduced_in_float32():
    ours = compat_statistics(random_logits(16).astype(jnp.bfloat16), **LAYOUT)
    assert all(values.dtype == jnp.float32 and values.shape == (2, 3) for values in ours.values())


def test_wrong_number_of_tokens_is_refused():
    with pytest.raises(ValueError, match="10 tokens are not 0 prefix tokens and a grid of 3 x 3"):
        compat_statistics(random_logits(10), grid=(3, 3), prefix=0, patch_size=16)
