"""What the figures of heads draw."""

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from mim_jax.analysis.head_figures import divergence_dots, head_heatmap, head_matrix, offset_scatter, sorted_heads
from mim_jax.analysis.style import COLOURS
from mim_jax.errors import InputError
from tests.analysis.statistic_tables import mixed_table, statistic_table

TABLE = statistic_table()
STAGES = mixed_table({"swin": (2, 4, 8), "vit": (3, 3)})


def visible(figure) -> list:
    """Panels, without colour bars."""
    return [axes for axes in figure.axes if axes.get_visible() and axes.get_label() != "<colorbar>"]


def dots(axes) -> list[np.ndarray]:
    return [np.asarray(artist.get_offsets()) for artist in axes.collections if isinstance(artist, PathCollection)]


def rows(table, encoder: str, statistic: str, query: str = "patches", of_heads: bool = True):
    named = table[(table["encoder"] == encoder) & (table["statistic"] == statistic) & (table["query"] == query)]
    return named[named["head"].notna() == of_heads]


def test_divergence_has_a_small_dot_for_every_head_and_a_large_one_for_the_layer():
    for axes, encoder in zip(visible(divergence_dots(TABLE)), ("one", "two"), strict=True):
        small, large = dots(axes)
        np.testing.assert_array_equal(small[:, 1], rows(TABLE, encoder, "kl_between_heads")["value"])
        np.testing.assert_array_equal(large[:, 0], [1, 2, 3])
        np.testing.assert_array_equal(large[:, 1], rows(TABLE, encoder, "kl_between_heads", of_heads=False)["value"])
        assert axes.get_ylim()[0] == 0


def test_jensen_shannon_divergence_has_only_layers():
    axes = visible(divergence_dots(TABLE, "jensen_shannon_between_heads"))[0]
    assert len(dots(axes)) == 1
    assert axes.get_ylabel() == "Jensen-Shannon divergence of heads (nats)"


def test_divergence_can_be_logarithmic():
    assert {axes.get_yscale() for axes in visible(divergence_dots(TABLE, log=True))} == {"log"}


def test_heads_are_sorted_within_the_stripe_of_their_layer():
    (axes,) = visible(sorted_heads(STAGES, "attention_distance"))
    assert len(axes.lines) == 5
    for line, (_, own) in zip(axes.lines, rows(STAGES, "swin", "attention_distance").groupby("layer")):
        np.testing.assert_array_equal(line.get_ydata(), np.sort(own["value"]))
        np.testing.assert_array_equal(np.rint(line.get_xdata()), own["layer"])
        assert (np.diff(line.get_xdata()) > 0).all()
    assert axes.get_legend_handles_labels()[1] == ["swin", "vit"]
    assert [to_hex(line.get_color()) for line in axes.lines] == [COLOURS[0]] * 3 + [COLOURS[1]] * 2


def test_heat_map_leaves_heads_that_a_layer_lacks_empty():
    figure = head_heatmap(STAGES, "attention_distance")
    (swin,), (vit,) = (axes.images for axes in visible(figure))
    assert np.isfinite(swin.get_array()).sum(axis=1).tolist() == [2, 4, 8]
    assert np.ma.getmaskarray(swin.get_array())[0, 2:].all()
    assert swin.norm is vit.norm and vit.get_array().shape == (2, 3)
    wanted = rows(STAGES, "swin", "attention_distance").query("layer == 3")["value"]
    np.testing.assert_array_equal(swin.get_array()[2], wanted)
    assert swin.get_extent() == [0.5, 8.5, 3.5, 0.5]


def test_heat_map_of_the_class_token_is_another():
    patches, token = (
        head_heatmap(TABLE, "attention_entropy", query).axes[0].images[0] for query in ("patches", "class")
    )
    np.testing.assert_array_equal(token.get_array().ravel(), rows(TABLE, "one", "attention_entropy", "class")["value"])
    assert not np.allclose(token.get_array(), patches.get_array())


def test_matrices_of_heads_share_a_scale_from_zero_and_have_the_numbers_of_their_layers():
    matrix = np.random.default_rng(0).random((3, 4, 4))
    panels = visible(head_matrix(matrix, layers=[2, 5, 9], title="MAE"))
    assert [axes.get_title() for axes in panels] == ["layer 2", "layer 5", "layer 9"]
    for axes, cells in zip(panels, matrix):
        np.testing.assert_array_equal(axes.images[0].get_array(), cells)
        assert axes.images[0].get_clim() == (0, matrix.max())


def test_offsets_lie_right_and_down_as_in_the_image():
    for axes, encoder in zip(visible(offset_scatter(TABLE)), ("one", "two"), strict=True):
        ((right, down),) = (points.T for points in dots(axes))
        np.testing.assert_array_equal(right, rows(TABLE, encoder, "column_offset")["value"])
        np.testing.assert_array_equal(down, rows(TABLE, encoder, "row_offset")["value"])
        assert axes.yaxis_inverted() and not axes.xaxis_inverted()
        assert axes.get_xlabel() == "to the right (px)" and len(axes.texts) == 3


def test_what_is_missing_is_named():
    with pytest.raises(InputError, match=r"no statistic 'row_offset' in the table"):
        offset_scatter(TABLE[TABLE["statistic"] != "row_offset"])
    with pytest.raises(InputError, match=r"no values of 'attention_distance' of whole layers for the query 'patches'"):
        divergence_dots(TABLE, "attention_distance")
    with pytest.raises(InputError, match=r"query 'registers'; .* the queries \['class', 'patches'\]"):
        sorted_heads(TABLE, "attention_entropy", "registers")
    with pytest.raises(InputError, match="no layer with a matrix of heads"):
        head_matrix(np.zeros((0, 4, 4)))
