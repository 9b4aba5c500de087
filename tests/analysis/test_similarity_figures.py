"""What the figures of similar layers draw."""

import numpy as np
import pytest

from mim_jax.analysis.similarity_figures import cka_heatmaps
from mim_jax.analysis.style import figure_bytes
from mim_jax.errors import InputError

WITHIN = np.array([[1.002, 0.5], [-0.01, np.nan]])
ACROSS = np.random.default_rng(0).random((2, 3))


def test_heat_maps_have_one_scale_upwards_and_name_their_encoders():
    figure = cka_heatmaps({"MAE": WITHIN, ("MAE", "DINO"): ACROSS}, "mean patch tokens, unbiased", first_layer=0)
    within, across, bar = figure.axes
    assert within.get_title() == "MAE" and within.get_xlabel() == within.get_ylabel() == "layer"
    assert (across.get_ylabel(), across.get_xlabel()) == ("layer of MAE", "layer of DINO")
    assert across.images[0].get_extent() == [-0.5, 2.5, -0.5, 1.5]
    assert not across.yaxis_inverted()
    for axes, matrix in ((within, WITHIN), (across, ACROSS)):
        assert axes.images[0].get_clim() == (0, 1)
        np.testing.assert_array_equal(np.ma.filled(axes.images[0].get_array(), np.nan), matrix)
    assert bar.get_ylabel() == "CKA"
    assert figure.get_suptitle() == "mean patch tokens, unbiased"


def test_missing_values_are_grey_and_values_outside_take_the_colour_of_the_end():
    figure = cka_heatmaps({"MAE": WITHIN})
    picture = figure.axes[0].images[0]
    colours = picture.to_rgba(picture.get_array())
    assert np.ptp(colours[1, 1, :3]) == 0 and 0.5 < colours[1, 1, 0] < 0.9
    np.testing.assert_array_equal(colours[0, 0], picture.cmap(1.0))
    np.testing.assert_array_equal(colours[1, 0], picture.cmap(0.0))
    assert figure_bytes(figure, "png")


def test_nothing_to_draw_is_refused():
    for matrices in ({}, {"MAE": np.zeros((0, 0))}):
        with pytest.raises(InputError, match="no similarities of layers"):
            cka_heatmaps(matrices)
