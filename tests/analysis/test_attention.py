"""Attention statistics over a data set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mim_jax.analysis.attention import COLUMNS, attention_observer, collect_attention_statistics
from mim_jax.errors import InputError
from mim_jax.models.build import initial_parameters, make_encoder
from mim_jax.models.swin import SwinConfig
from mim_jax.models.vit import VisionTransformer, VisionTransformerConfig
from mim_jax.ops.attention import Observation, Windows
from mim_jax.ops.attention_statistics import AttentionStatistics, uniform_attention_distance, uniform_attention_entropy

CONFIG = VisionTransformerConfig((8, 4), (2, 2), 1, width=16, depth=3, num_heads=2)
LAYOUT = dict(grid=CONFIG.grid, prefix=1, patch_size=CONFIG.patch_size)
IMAGES = np.random.default_rng(0).standard_normal((7, 8, 4, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def apply_fn():
    model = VisionTransformer(CONFIG)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(IMAGES[:1]))
    # Sharper attention than that of a new model, so that images and heads differ.
    generator = np.random.default_rng(1)
    parameters = jax.tree.map(lambda leaf: 0.5 * generator.standard_normal(leaf.shape).astype(np.float32), shapes)

    def run(parameters, images, observer):
        return model.apply(parameters, images, observer=observer).observations

    return jax.tree_util.Partial(run, parameters)


def whole(images):
    return [(images, np.ones(len(images), bool))]


@pytest.fixture(scope="module")
def table(apply_fn):
    return collect_attention_statistics(apply_fn, whole(IMAGES), encoder="tiny", **LAYOUT)


def test_table_is_tidy(table):
    assert tuple(table.columns) == COLUMNS
    assert len(table) == CONFIG.depth * CONFIG.num_heads * len(AttentionStatistics._fields)
    assert not table.duplicated(["encoder", "layer", "head", "statistic"]).any()
    assert set(table["layer"]) == {1, 2, 3} and set(table["head"]) == {1, 2}
    assert set(table["n"]) == {7} and set(table["encoder"]) == {"tiny"}
    assert dict(zip(table["statistic"], table["unit"]))["attention_distance"] == "px"


def test_values_and_intervals_are_those_of_the_images(apply_fn, table):
    per_image = jax.jit(lambda images: apply_fn(images, attention_observer(**LAYOUT)))(IMAGES)
    for name, values in zip(per_image._fields, np.asarray(per_image, np.float64), strict=True):
        rows = table[table["statistic"] == name].sort_values(["layer", "head"])
        np.testing.assert_allclose(rows["value"], values.mean(1).ravel(), rtol=1e-5)
        error = scipy.stats.sem(values, axis=1).ravel()
        np.testing.assert_allclose(rows["standard_error"], error, rtol=1e-3)
        low, high = scipy.stats.t.interval(0.95, 6, values.mean(1).ravel(), error)
        np.testing.assert_allclose(rows["ci95_low"], low, rtol=1e-4)
        np.testing.assert_allclose(rows["ci95_high"], high, rtol=1e-4)


def test_batches_and_padding_do_not_change_the_table(apply_fn, table):
    padding = np.full((1, *IMAGES.shape[1:]), np.nan, np.float32)
    last = np.concatenate([IMAGES[4:], padding])
    batches = [(IMAGES[:4], np.ones(4, bool)), (last, np.asarray([True] * 3 + [False]))]
    ours = collect_attention_statistics(apply_fn, batches, encoder="tiny", **LAYOUT)
    numbers = ["value", "standard_error", "ci95_low", "ci95_high", "n"]
    np.testing.assert_allclose(ours[numbers], table[numbers], rtol=1e-4)


def test_small_spread_on_a_large_mean_keeps_its_digits():
    """Sums of squares in float32 would lose a spread of 0.01 around 1000."""
    noise = np.random.default_rng(1).standard_normal(64)

    def apply_fn(images, observer):
        values = 1000 + 0.01 * images.reshape(1, -1, 1)
        return AttentionStatistics(values, values, values)

    batches = [(part.astype(np.float32)[:, None, None, None], np.ones(8, bool)) for part in np.split(noise, 8)]
    row = collect_attention_statistics(apply_fn, batches, encoder="x", **LAYOUT).iloc[0]
    assert row["value"] == pytest.approx(1000 + 0.01 * noise.mean(), abs=1e-4)
    assert row["standard_error"] == pytest.approx(0.01 * scipy.stats.sem(noise), rel=0.02)


def test_uniform_attention_has_its_closed_form():
    def apply_fn(images, observer):
        query = jnp.zeros((images.shape[0], 2, 9, 4))
        tokens = jnp.zeros((images.shape[0], 9, 8))
        return jax.tree.map(lambda x: x[None], observer(Observation(query, query, query, 0.5, None, tokens, tokens)))

    table = collect_attention_statistics(apply_fn, whole(IMAGES), encoder="uniform", **LAYOUT)
    values = table.groupby("statistic")["value"].mean()
    assert values["attention_distance"] == pytest.approx(uniform_attention_distance((4, 2), 2), rel=1e-6)
    assert values["attention_entropy"] == pytest.approx(uniform_attention_entropy((4, 2)), rel=1e-6)
    assert values["attention_entropy_with_prefix"] == pytest.approx(uniform_attention_entropy((4, 2), 1), rel=1e-6)


def test_single_image_has_no_standard_error(apply_fn):
    table = collect_attention_statistics(apply_fn, [(IMAGES, np.arange(7) == 3)], encoder="tiny", **LAYOUT)
    assert table["standard_error"].isna().all() and table["ci95_low"].isna().all()
    assert table["value"].notna().all()


@pytest.mark.parametrize("batches", [[], [(IMAGES, np.zeros(7, bool))]])
def test_no_images_are_refused(apply_fn, batches):
    with pytest.raises(InputError, match="no images .* 'tiny'"):
        collect_attention_statistics(apply_fn, batches, encoder="tiny", **LAYOUT)


@pytest.mark.parametrize("bias", [None, (2, 9, 9), (4, 1, 9, 9)])
def test_uniform_attention_within_windows_has_the_distance_and_entropy_of_a_window(bias):
    query, tokens = jnp.zeros((1, 4, 2, 9, 4)), jnp.zeros((1, 36, 8))
    windows = Windows(grid=(2, 2), size=(3, 3), shift=(0, 0), stride=(8, 8))
    bias = None if bias is None else jnp.zeros(bias)
    statistics = attention_observer(**LAYOUT)(Observation(query, query, query, 0.5, bias, tokens, tokens, windows))
    np.testing.assert_allclose(statistics.attention_distance, uniform_attention_distance((3, 3), 8), rtol=1e-5)
    np.testing.assert_allclose(statistics.attention_entropy, np.full((1, 2), np.log(9)), rtol=1e-5)


def test_layers_are_counted_through_the_stages_of_a_swin():
    config = SwinConfig(image_size=(16, 16), patch_size=(2, 2), width=8, depths=(2, 1), num_heads=(2, 4), window=4)
    parameters = initial_parameters(config, jax.random.key(0))

    def apply_fn(images, observer):
        return make_encoder(config).apply({"params": parameters}, images, observer=observer).observations

    images = jax.random.normal(jax.random.key(1), (3, 16, 16, 3))
    table = collect_attention_statistics(
        apply_fn, whole(images), encoder="swin", grid=config.grid, prefix=0, patch_size=config.patch_size
    )
    heads = table.groupby("layer")["head"].max()
    assert heads.to_dict() == {1: 2, 2: 2, 3: 4}
    distances = table[table["statistic"] == "attention_distance"].set_index("layer")["value"]
    shifted = distances[2].mean()
    assert shifted < distances[1].mean()  # masked pairs are not seen, so attention stays nearer
    np.testing.assert_allclose(distances[[1]].mean(), uniform_attention_distance((4, 4), 2), rtol=0.1)


def test_encoder_is_compiled_once_for_equal_batches():
    traces = []

    def apply_fn(images, observer):
        traces.append(images.shape)
        values = images.mean(axis=(1, 2, 3)).reshape(1, -1, 1)
        return AttentionStatistics(values, values, values)

    collect_attention_statistics(apply_fn, whole(IMAGES) * 3, encoder="x", **LAYOUT)
    assert len(traces) == 1
