"""Statistics of an encoder over a data set."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mim_jax.analysis.block_measures import Selection, observer
from mim_jax.analysis.collecting import Batch, Collected, collect, collect_all, layered_features
from mim_jax.analysis.definitions import STATISTICS
from mim_jax.analysis.measuring import Measure, Stage, Statistics
from mim_jax.analysis.moments import merge_moments, merge_parts
from mim_jax.analysis.partial_sums import SumsFile
from mim_jax.analysis.tables import COLUMNS, arrays_of, statistics_table
from mim_jax.errors import InputError
from mim_jax.models.build import initial_parameters, make_encoder
from mim_jax.models.swin import SwinConfig
from mim_jax.models.vit import VisionTransformerConfig
from mim_jax.ops.attention import Observation, Windows
from mim_jax.ops.attention_statistics import uniform_attention_distance, uniform_attention_entropy

CONFIG = VisionTransformerConfig((8, 4), (2, 2), 1, width=16, depth=3, num_heads=2)
IMAGES = np.random.default_rng(0).standard_normal((7, 8, 4, 1)).astype(np.float32)
NUMBERS = ["value", "standard_error", "ci95_low", "ci95_high", "n"]


def sharp_parameters(config):
    """Sharper attention than that of a new model, so that images and heads differ."""
    shapes = jax.eval_shape(lambda key: initial_parameters(config, key), jax.random.key(0))
    generator = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: 0.5 * generator.standard_normal(leaf.shape).astype(np.float32), shapes)


def measure_of(config=CONFIG, **selection):
    measure = Measure(make_encoder(config), config, Selection(**selection))
    return jax.tree_util.Partial(measure, sharp_parameters(config))


def batch(images, valid=None, first=0):
    valid = np.ones(len(images), bool) if valid is None else np.asarray(valid)
    return Batch(jnp.asarray(images), jnp.asarray(valid), first + np.arange(len(images)))


@pytest.fixture(scope="module")
def measure():
    return measure_of()


@pytest.fixture(scope="module")
def moments(measure):
    return collect_all(measure, [batch(IMAGES)])


@pytest.fixture(scope="module")
def table(moments):
    return statistics_table("tiny", moments, CONFIG.depths)


def test_table_is_tidy(table):
    assert tuple(table.columns) == COLUMNS
    assert not table.duplicated(["encoder", "layer", "head", "query", "statistic"]).any()
    assert set(table["layer"]) == {0, 1, 2, 3} and set(table["head"].dropna()) == {1, 2}
    assert set(table["n"]) == {7} and set(table["encoder"]) == {"tiny"}
    assert set(table["query"]) == {"", "class", "patches"}
    heads = table[table["head"].notna()]
    assert (heads.groupby(["query", "statistic"]).size() == CONFIG.depth * CONFIG.num_heads).all()
    known = table["statistic"].map({name: own.unit for name, own in STATISTICS.items()})
    assert (table["unit"] == known).all() and table["value"].notna().all()


def test_values_and_intervals_are_those_of_the_images(measure, table):
    stage = jax.jit(measure)(IMAGES)[1].statistics
    for query, name in [
        ("patches", "attention_distance"),
        ("class", "self_attention"),
        ("patches", "kl_between_heads"),
    ]:
        values = np.asarray(stage.heads[query][name], np.float64)
        rows = table[(table["statistic"] == name) & (table["query"] == query)].sort_values(["layer", "head"])
        heads, layers = rows[rows["head"].notna()], rows[rows["head"].isna()]
        np.testing.assert_allclose(heads["value"], values.mean(1).ravel(), rtol=1e-5)
        error = scipy.stats.sem(values, axis=1).ravel()
        np.testing.assert_allclose(heads["standard_error"], error, rtol=1e-3)
        low, high = scipy.stats.t.interval(0.95, 6, values.mean(1).ravel(), error)
        np.testing.assert_allclose(heads["ci95_low"], low, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(heads["ci95_high"], high, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(layers["value"], values.mean((1, 2)), rtol=1e-5)
        np.testing.assert_allclose(layers["standard_error"], scipy.stats.sem(values.mean(2), axis=1), rtol=1e-3)


def test_batches_and_padding_do_not_change_the_table(measure, table):
    padding = np.full((1, *IMAGES.shape[1:]), np.nan, np.float32)
    last = np.concatenate([IMAGES[4:], padding])
    batches = [batch(IMAGES[:4]), batch(last, [True] * 3 + [False], 4)]
    ours = statistics_table("tiny", collect_all(measure, batches), CONFIG.depths)
    np.testing.assert_allclose(ours[NUMBERS], table[NUMBERS], rtol=1e-4, atol=1e-5)


def test_arrays_are_means_over_images_by_layer(measure, moments):
    arrays = arrays_of(moments, CONFIG.depths)
    assert list(arrays["aligned_attention"]) == [1, 2, 3] and list(arrays["norm_histogram"]) == [0, 1, 2, 3]
    assert arrays["aligned_attention"][1].shape == (2, 7, 3)
    np.testing.assert_allclose(arrays["aligned_attention"][2].sum((1, 2)), [1, 1], rtol=1e-5)
    np.testing.assert_allclose(arrays["attention_received"][3].sum(1), [1, 1], rtol=1e-5)
    np.testing.assert_allclose(arrays["norm_histogram"][0].sum(), 1, rtol=1e-5)


def test_parts_merge_to_the_whole_in_any_order(measure, moments):
    parts = [collect_all(measure, [batch(part)]) for part in (IMAGES[:2], IMAGES[2:5], IMAGES[5:])]
    for order in itertools.permutations(parts):
        merged = merge_parts(order)
        assert float(merged.count) == 7
        for ours, whole in zip(jax.tree.leaves(merged), jax.tree.leaves(moments), strict=True):
            np.testing.assert_allclose(ours, whole, rtol=2e-4, atol=1e-5)
    one = merge_parts([*parts[:2], parts[2]])
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(merge_parts(parts[::-1])), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def constant(values):
    """A measure whose only statistic is the first pixel of each image."""
    named = {"patches": {"attention_distance": values.reshape(1, -1, 1)}}
    finite = jnp.isfinite(values).reshape(1, -1)
    return (Stage(Statistics(named, {}, {}), {}, finite),)


def test_small_spread_on_a_large_mean_keeps_its_digits():
    """Sums of squares in float32 would lose a spread of 0.01 around 1000."""
    noise = np.random.default_rng(1).standard_normal(64)
    measure = jax.tree_util.Partial(lambda images: constant(1000 + 0.01 * images[:, 0, 0, 0]))
    batches = [batch(part.astype(np.float32)[:, None, None, None]) for part in np.split(noise, 8)]
    found = collect_all(measure, batches)
    squares = found.squares[0].heads["patches"]["attention_distance"][0, 0]
    assert found.mean[0].heads["patches"]["attention_distance"][0, 0] == pytest.approx(
        1000 + 0.01 * noise.mean(), abs=1e-4
    )
    assert np.sqrt(squares / 63 / 64) == pytest.approx(0.01 * scipy.stats.sem(noise), rel=0.02)


def test_pass_ends_when_intervals_are_narrow_enough():
    noise = np.random.default_rng(1).standard_normal((50, 8, 1, 1, 1)).astype(np.float32)
    measure = jax.tree_util.Partial(lambda images: constant(images[:, 0, 0, 0]))
    limit = 0.2  # of a deviation of 1: about 96 images
    *_, (found, _, _) = collect(measure, map(batch, noise), until={"attention_distance": limit})
    assert found.enough and 8 < found.batches < 25
    values = noise[: found.batches].ravel()
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
    assert half <= limit
    fewer = noise[: found.batches - 1].ravel()
    assert scipy.stats.t.ppf(0.975, len(fewer) - 1) * scipy.stats.sem(fewer) > limit
    assert not list(collect(measure, map(batch, noise), start=found))  # what had enough asks for no more


def test_pass_goes_on_from_saved_sums(measure, moments, tmp_path):
    batches = [batch(IMAGES[:3]), batch(IMAGES[3:6], first=3)]
    first, *_ = next(iter(collect(measure, batches[:1])))
    file = SumsFile(tmp_path / "sums.npz", "what", "images")
    file.save(Collected(jax.device_get(first.moments), 1))
    loaded = file.load(moments)
    *_, (resumed, _, _) = collect(measure, batches[1:], start=loaded)
    *_, (straight, _, _) = collect(measure, batches)
    for ours, theirs in zip(jax.tree.leaves(resumed.moments), jax.tree.leaves(straight.moments), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert resumed.batches == 2
    assert SumsFile(file.path, "other", "images").load(moments) == Collected()
    assert SumsFile(file.path, "what", "others").load(moments) == Collected()


def test_damaged_sums_are_told(moments, tmp_path):
    path = tmp_path / "sums.npz"
    path.write_bytes(b"PK\x03\x04 not a file of numpy")
    with pytest.raises(InputError, match="sums.npz cannot be read as arrays .* move it elsewhere"):
        SumsFile(path, "what", "images").load(moments)


def test_merging_wants_the_same_statistics_of_other_images(moments, tmp_path):
    own = SumsFile(tmp_path / "a.npz", "what", "one")
    other = SumsFile(tmp_path / "b.npz", "what", "two")
    other.save(Collected(moments, 1))
    merged = own.merged(moments, [other.path])
    np.testing.assert_allclose(
        merged.mean[1].heads["patches"]["attention_distance"],
        moments.mean[1].heads["patches"]["attention_distance"],
        rtol=1e-6,
    )
    assert float(merged.count) == 14
    with pytest.raises(InputError, match="of the same images"):
        own.merged(moments, [other.path, other.path])
    with pytest.raises(InputError, match="no sums of the same encoder"):
        SumsFile(own.path, "another", "one").merged(moments, [other.path])
    with pytest.raises(InputError, match="no sums"):
        own.merged(moments, [tmp_path / "missing.npz"])


def test_values_that_are_not_finite_are_told_with_layer_and_image():
    broken = IMAGES.copy()
    broken[4] = np.nan
    parameters = sharp_parameters(CONFIG)
    kernel = parameters["blocks"]["1"]["mlp"]["fc2"]["kernel"]
    parameters["blocks"]["1"]["mlp"]["fc2"]["kernel"] = np.full_like(kernel, np.inf)
    measure = Measure(make_encoder(CONFIG), CONFIG)
    with pytest.raises(InputError, match="^the embedded patches gives values that are not finite for image 14;"):
        collect_all(measure_of(), [batch(broken, first=10)])
    with pytest.raises(InputError, match="^block 2 gives values that are not finite for photo 0;"):
        collect_all(jax.tree_util.Partial(measure, parameters), [batch(IMAGES)], describe="photo {}".format)


def test_single_image_has_no_standard_error(measure):
    found = collect_all(measure, [batch(IMAGES, np.arange(7) == 3)])
    table = statistics_table("tiny", found, CONFIG.depths)
    assert table["standard_error"].isna().all() and table["ci95_low"].isna().all()
    assert table["value"].notna().all()


@pytest.mark.parametrize("batches", [[], [batch(IMAGES, np.zeros(7, bool))]])
def test_no_images_are_refused(measure, batches):
    with pytest.raises(InputError, match="no images"):
        collect_all(measure, batches)


def test_only_what_is_named_is_measured():
    measure = measure_of(names=("attention_entropy",), queries=("class",), arrays=False)
    table = statistics_table("tiny", collect_all(measure, [batch(IMAGES)]), CONFIG.depths)
    assert set(table["statistic"]) == {"attention_entropy"} and set(table["query"]) == {"class"}
    assert len(table) == CONFIG.depth * (CONFIG.num_heads + 1)


def test_queries_that_an_encoder_lacks_are_refused():
    with pytest.raises(InputError, match="no registers token .* it has class, patches"):
        measure_of(queries=("registers",))


def test_other_papers_numbers_stand_beside_ours():
    table = statistics_table("tiny", collect_all(measure_of(compat=True), [batch(IMAGES)]), CONFIG.depths)
    layers = table[table["head"].isna()]
    ours, same, less = (
        layers[(layers["statistic"] == name) & (layers["query"] == query)]["value"].to_numpy()
        for name, query in [
            ("attention_distance", "patches"),
            ("cl-vs-mim/attention_distance", ""),
            ("vit/attention_distance", ""),
        ]
    )
    np.testing.assert_allclose(same, ours, rtol=1e-5)
    assert (less < ours).all()


def test_features_stand_for_images_layer_by_layer(measure):
    ((_, _, stages),) = ((*rest,) for rest in collect(measure, [batch(IMAGES)]))
    features = layered_features(stages, np.arange(7) < 5)
    assert {kind: [x.shape for x in own] for kind, own in features.items()} == {
        "pooled": [(5, 16)] * 4,
        "class": [(5, 16)] * 4,
    }


def uniform_observation(bias=None, windows=None):
    query, tokens = jnp.zeros((1, 2, 9, 4)), jnp.ones((1, 9, 8))
    if windows is not None:
        query, tokens = jnp.zeros((1, 4, 2, 9, 4)), jnp.ones((1, 36, 8))
    return Observation(query, query, query, 0.5, bias, tokens, tokens, windows, tokens)


def test_uniform_attention_has_its_closed_form():
    patches = observer((4, 2), 1, (2, 2))(uniform_observation())["heads"]["patches"]
    np.testing.assert_allclose(patches["attention_distance"], uniform_attention_distance((4, 2), 2), rtol=1e-6)
    np.testing.assert_allclose(patches["attention_entropy"], uniform_attention_entropy((4, 2)), rtol=1e-6)
    np.testing.assert_allclose(
        patches["attention_entropy_with_prefix"], uniform_attention_entropy((4, 2), 1), rtol=1e-6
    )


@pytest.mark.parametrize("bias", [None, (2, 9, 9), (4, 1, 9, 9)])
def test_uniform_attention_within_windows_has_the_distance_and_entropy_of_a_window(bias):
    windows = Windows(grid=(2, 2), size=(3, 3), shift=(0, 0), stride=(8, 8))
    bias = None if bias is None else jnp.zeros(bias)
    seen = observer((6, 6), 0, (8, 8))(uniform_observation(bias, windows))
    patches = seen["heads"]["patches"]
    np.testing.assert_allclose(patches["attention_distance"], uniform_attention_distance((3, 3), 8), rtol=1e-5)
    np.testing.assert_allclose(patches["attention_entropy"], np.full((1, 2), np.log(9)), rtol=1e-5)


def test_layers_are_counted_through_the_stages_of_a_swin():
    config = SwinConfig(image_size=(16, 16), patch_size=(2, 2), width=8, depths=(2, 1), num_heads=(2, 4), window=4)
    measure = jax.tree_util.Partial(
        Measure(make_encoder(config), config), initial_parameters(config, jax.random.key(0))
    )
    images = np.asarray(jax.random.normal(jax.random.key(1), (3, 16, 16, 3)))
    table = statistics_table("swin", collect_all(measure, [batch(images)]), config.depths)
    heads = table.groupby("layer")["head"].max().dropna()
    assert heads.to_dict() == {1: 2, 2: 2, 3: 4}
    rows = table[(table["statistic"] == "attention_distance") & table["head"].notna()].set_index("layer")["value"]
    assert rows[2].mean() < rows[1].mean()  # masked pairs are not seen, so attention stays nearer
    np.testing.assert_allclose(rows[[1]].mean(), uniform_attention_distance((4, 4), 2), rtol=0.1)
    assert set(table[table["statistic"] == "token_norm"]["layer"]) == {0, 1, 2, 3}


def test_encoder_is_compiled_once_for_equal_batches():
    traces = []

    def measure(images):
        traces.append(images.shape)
        return constant(images.mean(axis=(1, 2, 3)))

    collect_all(jax.tree_util.Partial(measure), [batch(IMAGES)] * 3)
    assert len(traces) == 1


def test_merging_nothing_changes_nothing(moments):
    empty = jax.tree.map(np.zeros_like, moments)
    for ours, theirs in zip(jax.tree.leaves(merge_moments(moments, empty)), jax.tree.leaves(moments), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
