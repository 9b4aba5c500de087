"""Centred kernel alignment and mutual neighbours against two libraries, definitions and what must not change them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.ops.similarity import (
    cka_of_grams,
    cka_of_sums,
    cka_sums,
    hsic_biased,
    hsic_unbiased,
    linear_cka,
    linear_gram,
    merge_cka_sums,
    minibatch_cka,
    minibatch_sums,
    mutual_nearest_neighbours,
    rbf_gram,
)
from tests.golden_cases import arrays

CASES = {name: arrays(name) for name in ("representation_statistics", "cka_reference")}
REFERENCE = CASES["cka_reference"]
ESTIMATORS = ("biased", "unbiased")


def single(*values):
    return [jnp.asarray(value, jnp.float32) for value in values]


def features(seed, rows, *widths, offset=0.0):
    """Layers that share eight directions, with a common offset in units of their noise; float64."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(rows, 8))
    layers = [shared @ rng.normal(size=(8, width)) + 3 * rng.normal(size=(rows, width)) for width in widths]
    return [layer + 4 * offset * rng.normal(size=layer.shape[1]) for layer in layers]


def exact_cka(x, y, estimator):
    """From the definitions in float64: HSIC1 term by term, HSIC0 with centring matrices."""

    def hsic_1(k, m):
        n, k, m = len(k), k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        sums = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ m).sum()
        return (np.trace(k @ m) + sums) / (n * (n - 3))

    def hsic_0(k, m):
        centring = np.eye(len(k)) - 1 / len(k)
        return np.trace(k @ centring @ m @ centring)

    hsic = {"biased": hsic_0, "unbiased": hsic_1}[estimator]
    k, m = ((z - z.mean(0)) @ (z - z.mean(0)).T for z in (x, y))
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def exact_table(xs, ys, estimator):
    return np.array([[exact_cka(x, y, estimator) for y in ys] for x in xs])


@pytest.mark.parametrize(("case", "prefix"), [("representation_statistics", "cka_"), ("cka_reference", "cka_linear_")])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_linear_cka_equals_the_libraries(case: str, prefix: str, estimator: str):
    stored = CASES[case]
    found = jax.jit(functools.partial(linear_cka, estimator=estimator))(*single(stored["x"], stored["y"]))
    np.testing.assert_allclose(found, stored[prefix + estimator], rtol=1e-5)


def test_unbiased_cka_equals_the_second_library():
    found = linear_cka(*single(REFERENCE["x"], REFERENCE["y"]))
    np.testing.assert_allclose(found, REFERENCE["cka_unbiased_library2"], rtol=1e-5)


def test_unbiased_independence_criterion_equals_the_library():
    one, other = (linear_gram(z) for z in single(REFERENCE["x"], REFERENCE["y"]))
    for name, pair in {"kl": (one, other), "kk": (one, one), "ll": (other, other)}.items():
        np.testing.assert_allclose(hsic_unbiased(*pair), REFERENCE[f"hsic1_{name}"], rtol=1e-5)


def test_biased_independence_criterion_equals_its_definition():
    x, y = single(REFERENCE["x"], REFERENCE["y"])
    cross = (REFERENCE["x"] - REFERENCE["x"].mean(0)).T @ REFERENCE["y"]
    expected = np.square(cross).sum() / (len(x) - 1) ** 2
    np.testing.assert_allclose(hsic_biased(linear_gram(x), linear_gram(y)), expected, rtol=1e-5)


@pytest.mark.parametrize("bandwidth", [0.5, 1.0])
def test_gaussian_kernel_equals_the_library(bandwidth: float):
    one, other = (rbf_gram(z, bandwidth) for z in single(REFERENCE["x"], REFERENCE["y"]))
    np.testing.assert_allclose(one, REFERENCE[f"gram_rbf_{bandwidth}_x"], rtol=1e-5, atol=1e-7)
    for estimator in ESTIMATORS:
        expected = REFERENCE[f"cka_rbf_{bandwidth}_{estimator}"]
        np.testing.assert_allclose(cka_of_grams(one, other, estimator), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("case", "size", "key"),
    [
        ("representation_statistics", 10, "cka_minibatch"),
        ("cka_reference", 12, "cka_minibatch_library1"),
        ("cka_reference", 12, "cka_minibatch_library2"),
    ],
)
def test_minibatch_cka_equals_the_libraries(case: str, size: int, key: str):
    sums = batched([CASES[case]["x"]], [CASES[case]["y"]], size)
    np.testing.assert_allclose(minibatch_cka(sums), CASES[case][key].reshape(1, 1), rtol=1e-5)


def batched(xs, ys, size):
    parts = [
        [layer[start : start + size] for layer in layers] for layers in (xs, ys) for start in range(0, len(xs[0]), size)
    ]
    half = len(parts) // 2
    sums = [minibatch_sums(single(*x), single(*y)) for x, y in zip(parts[:half], parts[half:])]
    return functools.reduce(lambda one, other: jax.tree.map(jnp.add, one, other), sums)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_cka_ignores_rotations_scale_offsets_and_the_order_of_images(estimator: str):
    x, y = features(0, 24, 12, 9)
    rotation, order = (
        np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0],
        np.random.default_rng(2).permutation(24),
    )
    expected = linear_cka(*single(x, y), estimator)
    for changed in ((x @ rotation, y), (1e-8 * x, 1e6 * y), (x + 50, y - 3), (x[order], y[order])):
        np.testing.assert_allclose(linear_cka(*single(*changed), estimator), expected, rtol=2e-5)
    assert abs(linear_cka(*single(x[order], y), estimator) - expected) > 0.1


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_cka_of_features_with_themselves_is_one(estimator: str):
    x = single(*features(0, 24, 12))[0]
    np.testing.assert_allclose(linear_cka(x, x, estimator), 1, rtol=1e-6)


def test_unbiased_cka_of_independent_features_is_near_zero_where_the_biased_one_is_not():
    x, y = single(*np.random.default_rng(0).normal(size=(2, 32, 200)))
    assert abs(linear_cka(x, y)) < 0.1
    assert linear_cka(x, y, "biased") > 0.8


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("offset", [3, 10, 30])
def test_wide_features_with_a_large_common_offset_keep_their_digits(estimator: str, offset: float):
    x, y = (layer.astype(np.float32) for layer in features(3, 64, 4000, 3000, offset=offset))
    expected = exact_cka(x.astype(np.float64), y.astype(np.float64), estimator)
    np.testing.assert_allclose(linear_cka(*single(x, y), estimator), expected, rtol=1e-5)
    if estimator == "unbiased":
        sums = minibatch_sums(single(x), single(y))
        np.testing.assert_allclose(minibatch_cka(sums), [[expected]], rtol=1e-5)


def test_cka_with_features_that_do_not_vary_is_zero():
    x, constant = single(features(0, 16, 6)[0], np.full((16, 5), 1234.567))
    for estimator in ESTIMATORS:
        assert linear_cka(x, constant, estimator) == 0
        sums = cka_sums([x], [constant], [x[0]], [constant[0] + 1e-4])
        np.testing.assert_array_equal(cka_of_sums(sums, estimator), [[0.0]])
    np.testing.assert_array_equal(minibatch_cka(minibatch_sums([x], [constant])), [[0.0]])
    assert cka_of_grams(linear_gram(x), rbf_gram(constant)) == 0


def test_minibatch_cka_of_one_batch_is_unbiased_cka_between_all_layers():
    layers = features(4, 20, 6, 11, 8)
    sums = minibatch_sums(single(*layers[:2]), single(*layers[1:]))
    np.testing.assert_allclose(minibatch_cka(sums), exact_table(layers[:2], layers[1:], "unbiased"), rtol=1e-5)
    assert sums.batches == 1 and sums.rows == 20


def test_minibatch_cka_within_one_encoder_is_symmetric_with_ones():
    layers = single(*features(4, 20, 6, 11))
    table = minibatch_cka(minibatch_sums(layers, layers))
    np.testing.assert_allclose(np.diagonal(table), 1, rtol=1e-6)
    np.testing.assert_allclose(table, table.T, rtol=1e-6)
    np.testing.assert_allclose(table, minibatch_cka(minibatch_sums(layers, list(layers))), rtol=1e-6)


@pytest.mark.parametrize("kept", [3, 4, 13])
def test_rows_that_fill_a_batch_are_left_out_of_minibatches_exactly(kept: int):
    layers = features(5, 16, 6, 9)
    valid = np.random.default_rng(0).permutation(16) < kept
    filled = [np.where(valid[:, None], layer, np.nan) for layer in layers]
    sums = minibatch_sums(single(filled[0]), single(filled[1]), jnp.asarray(valid))
    if kept < 4:
        assert all((np.asarray(value) == 0).all() for value in sums)
    else:
        alone = minibatch_sums(*([value] for value in single(*(layer[valid] for layer in layers))))
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), sums, alone)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("offset", [0, 30])
def test_streaming_cka_equals_that_of_all_images_at_once(estimator: str, offset: float):
    layers = [layer.astype(np.float32) for layer in features(6, 60, 7, 12, 40, 9, offset=offset)]
    xs, ys = layers[:2], layers[2:]
    merged = functools.reduce(merge_cka_sums, parts(xs, ys))
    wide = [[layer.astype(np.float64) for layer in side] for side in (xs, ys)]
    found = cka_of_sums(merged, estimator)
    np.testing.assert_allclose(found, exact_table(*wide, estimator), rtol=1e-5)
    at_once = [[linear_cka(*single(x, y), estimator) for y in ys] for x in xs]
    np.testing.assert_allclose(found, at_once, rtol=1e-5)


def parts(xs, ys):
    """Sums of three parts of unequal size, with the mean of the first 20 images as the offset."""
    offsets = [single(*(layer[:20].mean(0) for layer in side)) for side in (xs, ys)]
    cuts = [(0, 10), (10, 41), (41, None)]
    split = [(single(*(x[a:b] for x in xs)), single(*(y[a:b] for y in ys))) for a, b in cuts]
    return [jax.jit(cka_sums)(x, y, *offsets) for x, y in split]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_order_in_which_parts_are_merged_does_not_matter(estimator: str):
    one, two, three = parts(*([layer] for layer in features(6, 60, 12, 40, offset=30)))
    forth = cka_of_sums(merge_cka_sums(merge_cka_sums(one, two), three), estimator)
    back = cka_of_sums(merge_cka_sums(three, merge_cka_sums(two, one)), estimator)
    np.testing.assert_allclose(forth, back, rtol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_streaming_cka_within_one_encoder_is_symmetric_with_ones(estimator: str):
    layers = single(*features(7, 30, 7, 12))
    offsets = [layer.mean(0) for layer in layers]
    table = cka_of_sums(cka_sums(layers, layers, offsets, offsets), estimator)
    np.testing.assert_allclose(np.diagonal(table), 1, rtol=1e-5)
    np.testing.assert_allclose(table, table.T, rtol=1e-6)
    np.testing.assert_allclose(table[0, 1], exact_cka(*features(7, 30, 7, 12), estimator), rtol=1e-5)


def test_rows_that_fill_a_batch_are_left_out_of_streaming_sums_exactly():
    layers = features(5, 16, 6, 9)
    valid = np.random.default_rng(0).permutation(16) < 11
    filled = [np.where(valid[:, None], layer, np.nan) for layer in layers]
    offsets = [[offset] for offset in single(*(layer[valid].mean(0) for layer in layers))]
    masked = cka_sums(single(filled[0]), single(filled[1]), *offsets, valid=jnp.asarray(valid))
    alone = cka_sums(*([value] for value in single(*(layer[valid] for layer in layers))), *offsets)
    assert masked.between[-1, -1] == 11
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-3), masked, alone)


def exact_mutual_neighbours(x, y, k):

    nearest = []
    for z in (x, y):
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        similarity = z @ z.T
        np.fill_diagonal(similarity, -np.inf)
        nearest.append(np.argsort(-similarity, axis=1)[:, :k])
    shares = [len(set(one) & set(other)) / k for one, other in zip(*nearest)]
    return np.mean(shares)


@pytest.mark.parametrize("chunk", [7, 256])
def test_mutual_neighbours_equal_their_definition(chunk: int):
    x, y = features(8, 50, 12, 9)
    found = mutual_nearest_neighbours(*single(x, y), k=6, chunk=chunk)
    np.testing.assert_allclose(found, exact_mutual_neighbours(x, y, 6), rtol=1e-6)


def test_mutual_neighbours_ignore_rotations_and_the_lengths_of_rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 8))
    turned = x @ np.linalg.qr(rng.normal(size=(8, 8)))[0] * rng.uniform(1, 9, size=(30, 1))
    assert mutual_nearest_neighbours(*single(x, turned)) == 1
    assert mutual_nearest_neighbours(*single(x, rng.normal(size=(30, 8))), k=29) == 1


ROWS_3, ROWS_4, ROWS_5 = (jnp.ones((rows, 2)) for rows in (3, 4, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_cka(ROWS_3, ROWS_3), "unbiased CKA got 3 rows; give it 4 at least"),
        (lambda: linear_cka(ROWS_4, ROWS_5), "4 rows and 5 rows"),
        (lambda: linear_cka(ROWS_4, ROWS_4, "debiased"), "'debiased'; choose one of biased, unbiased"),
        (lambda: cka_of_grams(ROWS_4 @ ROWS_4.T, ROWS_5 @ ROWS_5.T), "4 rows and 5 rows"),
        (lambda: hsic_unbiased(ROWS_3 @ ROWS_3.T, ROWS_3 @ ROWS_3.T), "got 3 rows"),
        (lambda: minibatch_sums([ROWS_3], [ROWS_3]), "got 3 rows"),
        (lambda: cka_of_sums(cka_sums([ROWS_3], [ROWS_3], [ROWS_3[0]], [ROWS_3[0]])), "got 3 rows"),
        (lambda: mutual_nearest_neighbours(ROWS_4, ROWS_5), "4 rows and 5 rows"),
        (lambda: mutual_nearest_neighbours(ROWS_5, ROWS_5, k=5), "k is 5; choose a number of neighbours from 1 to 4"),
        (lambda: mutual_nearest_neighbours(ROWS_5, ROWS_5, k=0), "from 1 to 4"),
    ],
)
def test_impossible_requests_are_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
