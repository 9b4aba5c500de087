"""Resizing of relative position bias tables against the original code of SimMIM, Swin and timm."""

import numpy as np
import pytest

from mim_jax.ops.bias_tables import RESIZINGS, geometric_offsets, resize_bias_table
from tests import golden_cases as golden

TOLERANCE = 1e-5

REMAPS = ["7_12", "6_12", "12_7", "14_24", "6_7", "4_12", "8_6"]


def square(side: int) -> tuple[int, int]:
    return side, side


def waves(rows: int) -> np.ndarray:
    i = np.arange(rows)
    return np.stack([np.sin(0.1 * i), np.cos(0.05 * i)], axis=1).astype(np.float32)


@pytest.mark.parametrize("key", REMAPS)
def test_geometric_equals_simmim(key):
    arrays, (source, target) = golden.arrays("simmim_rel_pos_table_remap"), map(int, key.split("_"))
    ours = resize_bias_table(arrays[f"source_{key}"], square(source), square(target), "geometric")
    assert ours.dtype == np.float32
    assert golden.relative_error(ours, arrays[f"target_{key}"]) <= TOLERANCE


@pytest.mark.parametrize("side", [3, 6, 8])
def test_timm_equals_timm(side):
    arrays, window = golden.arrays("timm_rel_pos_table_resize"), golden.case("timm_rel_pos_table_resize")["window"]
    ours = resize_bias_table(arrays["source"], square(window), square(side), "timm", extra_rows=3)
    assert golden.relative_error(ours, arrays[f"target_{side}"]) <= TOLERANCE
    assert np.array_equal(ours[-3:], arrays["source"][-3:])
    ours = resize_bias_table(arrays["nocls_source"], square(window), square(side), "timm")
    assert golden.relative_error(ours, arrays[f"nocls_target_{side}"]) <= TOLERANCE


def test_bicubic_equals_swin():
    tensors, arrays = golden.checkpoint("swin_finetune_load_v1"), golden.arrays("swin_finetune_load_v1")
    for name in (f"layers.{stage}.blocks.0.attn.relative_position_bias_table" for stage in range(2)):
        ours = resize_bias_table(tensors[name], (4, 4), (6, 6), "bicubic")
        assert golden.relative_error(ours, arrays[f"target/{name}"]) <= TOLERANCE


@pytest.mark.parametrize(
    "source, target, positive",
    [
        (11, 13, [1, 2.091281, 3.282176, 4.581777, 6.000008]),
        (13, 23, [1, 2.240724, 3.780120, 5.690085, 8.059825, 11.000019]),
        (
            23,
            27,
            [1, 2.032893, 3.099761, 4.201722, 5.339929, 6.515576, 7.729893, 8.984153, 10.279669, 11.617798, 12.999943],
        ),
    ],
)
def test_offsets_are_the_published_progression(source, target, positive):
    offsets = geometric_offsets(source, target)
    np.testing.assert_allclose(offsets[source // 2 + 1 :], positive, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(offsets, -offsets[::-1])


@pytest.mark.parametrize(
    "source, target, ratio",
    [
        (11, 13, 1.0912812996),
        (23, 27, 1.0328930473),
        (13, 23, 1.2407239723),
        (27, 47, 1.0903074455),
        (13, 11, 1.0100009346),
        (27, 23, 1.0100009346),
    ],
)
def test_ratio_is_the_published_one(source, target, ratio):
    middle = source // 2
    assert geometric_offsets(source, target)[middle + 2] - 1 == pytest.approx(ratio, abs=1e-9)


def test_outermost_offsets_meet():
    assert geometric_offsets(27, 47)[-1] == pytest.approx(22.999934, abs=1e-5)


def test_geometric_gives_the_published_check_values():
    small = resize_bias_table(waves(121), (6, 6), (7, 7), "geometric")
    expected = [7.5e-06, 0.0695510, 0.1431913, 0.2211017, 0.3031772, 0.3894253]
    np.testing.assert_allclose(small[:6, 0], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(small[84], [-0.2794155, -0.9899925], rtol=0, atol=1e-6)
    np.testing.assert_allclose(small.sum(axis=0, dtype=float), [3.6737945, 3.2345149], rtol=0, atol=1e-5)
    large = resize_bias_table(waves(529), (12, 12), (14, 14), "geometric")
    expected = [0.0719569, 0.1452531, 0.2195129, 0.2943325, 0.3692389]
    np.testing.assert_allclose(large[1:6, 0], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(large[364], [0.9542851, 0.8058839], rtol=0, atol=1e-6)
    np.testing.assert_allclose(large.sum(axis=0, dtype=float), [18.0333018, 25.1243969], rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", RESIZINGS)
@pytest.mark.parametrize("window", [(6, 6), (4, 5)])
def test_same_window_leaves_the_table_as_it_is(method, window):
    table = waves((2 * window[0] - 1) * (2 * window[1] - 1) + 3)
    assert np.array_equal(resize_bias_table(table, window, window, method, extra_rows=3), table)


@pytest.mark.parametrize("method", RESIZINGS)
def test_constant_stays_constant(method):
    resized = resize_bias_table(np.full((49, 2), 3.0, np.float32), (4, 4), (6, 6), method)
    np.testing.assert_allclose(resized, np.full((121, 2), 3.0), rtol=1e-6)


@pytest.mark.parametrize("method", ["bicubic", "timm"])
def test_rectangles_are_resized_along_each_axis(method):
    rows, columns = np.arange(7.0), np.arange(11.0)
    table = (rows[:, None] + 0 * columns).reshape(-1, 1)
    resized = resize_bias_table(table, (4, 6), (5, 3), method).reshape(9, 5)
    np.testing.assert_allclose(resized, np.repeat(resized[:, :1], 5, axis=1), atol=1e-12)
    np.testing.assert_allclose(resized[:, 0], RESIZINGS[method](7, 9) @ rows, atol=1e-12)


def test_geometric_refuses_rectangles():
    with pytest.raises(ValueError, match="square windows only, not 4x6 to 5x3; choose 'bicubic' or 'timm'"):
        resize_bias_table(np.zeros((77, 1)), (4, 6), (5, 3), "geometric")


def test_geometric_refuses_windows_without_enough_offsets():
    with pytest.raises(ValueError, match="a window of 2 tokens a side is too small for cubic splines"):
        resize_bias_table(np.zeros((9, 1)), (2, 2), (4, 4), "geometric")


def test_wrong_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="has 52 rows, but windows of 4x4 tokens need 49"):
        resize_bias_table(np.zeros((52, 1)), (4, 4), (4, 4))
