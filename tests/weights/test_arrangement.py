"""Arrays in C order, whatever the order that they come in."""

import ml_dtypes
import numpy as np
import pytest

from mim_jax.weights import arrangement
from mim_jax.weights.arrangement import pieces

ARRAY = np.arange(60 * 14 * 5, dtype=np.float32).reshape(60, 14, 5)
VIEWS = {
    "as it is": ARRAY,
    "turned": ARRAY.T,
    "two swapped": ARRAY.transpose(1, 0, 2),
    "last first": ARRAY.transpose(2, 0, 1),
    "every second": ARRAY[::2].T,
    "backwards": ARRAY[::-1, :, ::-1],
    "repeated": np.broadcast_to(ARRAY[:1], ARRAY.shape),
    "split": ARRAY.reshape(3, 4, 5, 70).transpose(3, 0, 1, 2),
    "axes of one": ARRAY.reshape(60, 1, 70, 1).T,
    "one number": ARRAY[1, 2, 3, ...],
    "one axis": ARRAY[3, :, 2],
    "none": ARRAY[:0],
}


@pytest.mark.parametrize("size", [1, 1000, 1 << 22])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("view", VIEWS)
def test_pieces_are_the_array_in_c_order(view, dtype, size, monkeypatch):
    monkeypatch.setattr(arrangement, "PIECE", size)
    found = [piece.copy() for piece in pieces(VIEWS[view], np.dtype(dtype))]
    assert all(piece.ndim == 1 and piece.dtype == dtype for piece in found)
    expected = VIEWS[view].astype(dtype).tobytes()
    assert b"".join(piece.tobytes() for piece in found) == expected


@pytest.mark.parametrize("view", ["turned", "last first", "split"])
def test_pieces_of_turned_arrays_are_small(view, monkeypatch):
    monkeypatch.setattr(arrangement, "PIECE", 4096)
    assert max(piece.nbytes for piece in pieces(VIEWS[view], np.dtype(np.float32))) <= 4096


def test_what_lies_in_order_is_not_copied():
    (piece,) = pieces(ARRAY, ARRAY.dtype)
    assert np.shares_memory(piece, ARRAY)
