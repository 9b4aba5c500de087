"""Position tables against the original code and the numbers of torch's bicubic."""

import numpy as np
import pytest

from mim_jax.ops.positions import bicubic_matrix, resize_position_table, sincos_position_table
from tests import golden_cases as golden


@pytest.mark.parametrize("key", ["16_4", "64_7", "768_14"])
def test_sincos_equals_the_original(key):
    width, side = map(int, key.split("_"))
    ours = sincos_position_table((side, side), width)
    np.testing.assert_allclose(ours, golden.arrays("sincos_pos_embed")[key], rtol=0, atol=1e-12)


def test_sincos_of_a_rectangle_encodes_the_column_first():
    table = sincos_position_table((2, 3), 8, prefix=0).reshape(2, 3, 8)
    assert np.array_equal(table[0, :, :4], table[1, :, :4])
    assert np.array_equal(table[:, 0, 4:], table[:, 2, 4:])


def test_resizing_equals_the_original():
    arrays = golden.arrays("pos_embed_interpolation")
    ours = resize_position_table(arrays["source"][0], (8, 8), (16, 16))
    assert golden.relative_error(ours, arrays["target"][0]) < 1e-6
    assert np.array_equal(ours[0], arrays["source"][0, 0])


def test_bicubic_gives_the_published_check_values():
    image = np.fromfunction(lambda r, c: (4 * r + c) ** 1.5, (4, 4))
    resized = bicubic_matrix(4, 6) @ image @ bicubic_matrix(4, 6).T
    expected = [-0.76482111, -0.44675407, 0.38913456, 1.37630451, 3.07653737, 4.23410988]
    np.testing.assert_allclose(resized[0], expected, atol=1e-6)  # recorded in float32


def test_bicubic_rows_sum_to_one_when_shrinking():
    np.testing.assert_allclose(bicubic_matrix(16, 5).sum(axis=1), 1)


def test_wrong_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="65 rows, which is not 1 \\+ 7x7"):
        resize_position_table(np.zeros((65, 4)), (7, 7), (8, 8))


def test_width_must_be_divisible_by_four():
    with pytest.raises(ValueError, match="divisible by 4, not 6"):
        sincos_position_table((2, 2), 6)
