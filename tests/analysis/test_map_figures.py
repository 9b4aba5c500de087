"""What the pictures of maps draw."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from mim_jax.analysis.map_figures import (
    aligned_maps,
    attention_grid,
    embedding_scatter,
    norm_histograms,
    norm_maps,
    rollout_pictures,
    triptychs,
)
from mim_jax.errors import InputError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((3, 8, 12, 3)).astype(np.float32)
MAPS = RANDOM.random((3, 2, 3)).astype(np.float32)


def shown(figure) -> list:
    return [axes for axes in figure.axes if axes.get_visible() and axes.get_label() != "<colorbar>"]


def cells(axes) -> np.ndarray:
    return np.ma.filled(axes.images[0].get_array(), np.nan)


def test_aligned_maps_are_tiles_by_layer_and_head_scaled_to_their_peak():
    aligned = RANDOM.random((2, 3, 3, 5))
    aligned[0, 2] = np.nan
    (axes,) = shown(aligned_maps(aligned, "MAE", layers=[4, 9]))
    mosaic = cells(axes)
    np.testing.assert_allclose(mosaic[4:7, 6:11], aligned[1, 1] / aligned[1, 1].max())
    assert np.isnan(mosaic[3]).all() and np.isnan(mosaic[:3, 12:17]).all()
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["4", "9"]
    assert list(axes.get_xticks()) == [2, 8, 14] and axes.get_title() == "MAE"


def test_attention_grid_shows_the_image_and_every_head_and_frames_the_query():
    maps = {"class token": RANDOM.random((9, 2, 3)), "patch (1, 2)": RANDOM.random((9, 2, 3))}
    panels = shown(attention_grid(IMAGES[0], maps, {"patch (1, 2)": (1, 2)}))
    titles = [*(f"head {head}" for head in range(1, 10))]
    assert [axes.get_title() for axes in panels] == ["class token", *titles, "patch (1, 2)", *titles]
    np.testing.assert_array_equal(cells(panels[0]), IMAGES[0])
    np.testing.assert_allclose(cells(panels[12]), maps["patch (1, 2)"][1] / maps["patch (1, 2)"][1].max())
    frames = [[patch for patch in axes.patches if isinstance(patch, Rectangle)] for axes in panels]
    assert [len(found) for found in frames] == [0] * 10 + [1] * 10
    assert frames[-1][0].get_bbox().extents.tolist() == [7.5, 3.5, 11.5, 7.5]


def test_heads_of_a_grid_can_be_chosen():
    panels = shown(attention_grid(IMAGES[0], {"class token": MAPS[:2]}, heads=[3, 11]))
    assert [axes.get_title() for axes in panels] == ["class token", "head 3", "head 11"]


def test_triptychs_are_image_class_token_and_selective_aggregation():
    panels = shown(triptychs(IMAGES, MAPS, MAPS[:, ::-1]))
    assert [axes.get_title() for axes in panels[:3]] == ["input", "class token", "selective\naggregation"]
    assert len(panels) == 9
    for index, (image, token, selective) in enumerate(zip(panels[::3], panels[1::3], panels[2::3])):
        np.testing.assert_array_equal(cells(image), IMAGES[index])
        np.testing.assert_allclose(cells(token), MAPS[index] / MAPS[index].max())
        np.testing.assert_allclose(cells(selective), cells(token)[::-1])
        assert token.images[0].get_extent() == [-0.5, 11.5, 7.5, -0.5]
        assert token.images[0].get_interpolation() == "nearest" and token.images[0].get_cmap().name == "viridis"


def test_rollout_stands_beside_its_image_and_bytes_are_images_too():
    grey = (255 * IMAGES[..., :1]).astype(np.uint8)
    panels = shown(rollout_pictures(grey, np.zeros_like(MAPS)))
    np.testing.assert_array_equal(cells(panels[4]), np.repeat(grey[2], 3, axis=2))
    assert (cells(panels[5]) == 0).all()


def test_norms_of_all_images_have_one_scale():
    panels = shown(norm_maps(IMAGES, 100 * MAPS))
    assert {axes.images[0].get_clim() for axes in panels[1::2]} == {(100 * MAPS.min(), 100 * MAPS.max())}
    np.testing.assert_array_equal(cells(panels[3]), 100 * MAPS[1])


def test_norm_histograms_are_shares_by_layer_with_gaps_for_empty_bins():
    counts = np.array([[8, 0, 2], [0, 5, 0]])
    axes = norm_histograms({"MAE": counts}, np.array([0.0, 10.0, 20.0, 30.0])).axes[0]
    assert axes.get_yscale() == "log"
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[5, 0.8], [15, np.nan], [25, 0.2]])
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), [np.nan, 1, np.nan])


def test_norms_over_decades_are_logarithmic_and_only_bins_that_hold_something_are_shown():
    shares = np.array([[0, 0, 0.25, 0.75, 0]], np.float32)
    axes = norm_histograms({"MAE": shares}, np.logspace(-2, 3, 6)).axes[0]
    assert axes.get_xscale() == "log"
    np.testing.assert_allclose(axes.get_xlim(), [1, 100])
    np.testing.assert_allclose(axes.lines[0].get_xydata()[2:4], [[5.5, 0.25], [55, 0.75]])


def test_points_of_an_embedding_are_grouped_by_label():
    points = RANDOM.random((5, 2))
    figure = embedding_scatter(points, ["cat", "dog", "cat", "cat", "dog"], "layer 12")
    first, second = figure.axes[0].collections
    np.testing.assert_array_equal(first.get_offsets(), points[[0, 2, 3]])
    np.testing.assert_array_equal(second.get_offsets(), points[[1, 4]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cat", "dog"]
    many = embedding_scatter(RANDOM.random((30, 2)), np.arange(30))
    assert len(many.axes[0].collections) == 30 and not many.legends


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="no aligned attention maps"):
        aligned_maps(np.zeros((0, 3, 3, 3)))
    with pytest.raises(InputError, match="no attention maps"):
        attention_grid(IMAGES[0], {})
    with pytest.raises(InputError, match="0 images cannot be drawn"):
        rollout_pictures(IMAGES[:0], MAPS[:0])
    with pytest.raises(InputError, match="3 images .* one map of class token and selective aggregation for each"):
        triptychs(IMAGES, MAPS, MAPS[:2])
    with pytest.raises(InputError, match="one map of norms of tokens for each"):
        norm_maps(IMAGES[:0], MAPS[:0])
    with pytest.raises(InputError, match="no curves of layers"):
        norm_histograms({}, np.arange(3.0))
    with pytest.raises(InputError, match="5 points with 2 labels"):
        embedding_scatter(RANDOM.random((5, 2)), [1, 2])
