"""What the figures of a probing run draw."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from mim_jax.analysis.probe_figures import (
    PoolingPictures,
    accuracy_by_labels,
    accuracy_by_layer,
    accuracy_by_pooling,
    at_last_layer,
    pooling_pictures,
)
from mim_jax.analysis.style import COLOURS, figure_bytes
from mim_jax.errors import InputError
from mim_jax.probing.table import ProbeRow, probe_table

IMAGES = np.random.default_rng(0).random((2, 8, 12, 3), np.float32)
MAPS = {"cls attention": np.eye(2, 3, dtype=np.float32)[None].repeat(2, 0), "abmilp": np.ones((2, 4, 6), np.float32)}

POOLINGS = ("cls", "mean", "abmilp(depth=2)")
PROTOCOLS = {"trained": (None,), "k-NN": (1, 10, None)}


def probing_table(
    encoders: tuple[str, ...] = ("MAE", "DINO"), layers: int = 3, poolings: tuple[str, ...] = POOLINGS
) -> pd.DataFrame:
    """Accuracies that grow with the layer, the encoder and the pooling; few labels and no training for two poolings."""
    rows = [
        probe_row(encoder, layer, pooling, protocol, labels, 0.1 * layer + 0.01 * index + 0.02 * place)
        for index, encoder in enumerate(encoders)
        for layer in range(1, layers + 1)
        for place, pooling in enumerate(poolings)
        for protocol, numbers in PROTOCOLS.items()
        for labels in numbers
        if protocol == "trained" or place < 2
    ]
    return probe_table(rows)


def probe_row(encoder: str, layer: int, pooling: str, protocol: str, labels: int | None, accuracy: float) -> ProbeRow:
    accuracy -= 0.05 / labels if labels else 0.0
    details = {"learning_rate": 0.1} if protocol == "trained" else {"neighbours": 20}
    return ProbeRow(
        encoder, layer, pooling, False, protocol, accuracy, accuracy - 0.02, accuracy + 0.03, 500,
        labels_per_class=labels, details=details,
    )  # fmt: skip


def panels(figure) -> list:
    return [axes for axes in figure.axes if axes.get_visible()]


def test_bars_are_the_accuracies_at_the_last_layer_with_all_labels():
    table = probing_table()
    for axes, encoder in zip(panels(accuracy_by_pooling(table, "trained")), ("MAE", "DINO"), strict=True):
        wanted = at_last_layer(table).query("encoder == @encoder and protocol == 'trained'")
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], 100 * wanted["accuracy"])
        assert axes.get_title("left") == f"{encoder}, block 3"


def test_bars_have_their_interval_and_the_class_token_is_a_dashed_line():
    table = probing_table()
    rows = at_last_layer(table).query("encoder == 'MAE' and protocol == 'trained'")
    axes = accuracy_by_pooling(table, "trained").axes[0]
    ends = np.array([segment[:, 0] for segment in axes.collections[0].get_segments()])
    np.testing.assert_allclose(ends, 100 * rows[["low", "high"]])
    (dashed,) = [line for line in axes.lines if line.is_dashed()]
    np.testing.assert_allclose(dashed.get_xdata(), 100 * rows.query("pooling == 'cls'")["accuracy"].iloc[0])


def test_diamonds_are_better_layers_than_the_last_with_their_number():
    table = probing_table()
    table.loc[(table["layer"] == 2) & (table["encoder"] == "DINO") & (table["pooling"] == "mean"), "accuracy"] = 0.95
    figure = accuracy_by_pooling(table, "trained")
    (diamonds,) = [line for line in figure.axes[1].lines if line.get_marker() == "D"]
    np.testing.assert_allclose(diamonds.get_xydata(), [[95.0, 1]])
    assert any("◇ 95.0 (2)" in text.get_text() for text in figure.axes[1].texts)
    assert not any("◇" in text.get_text() for text in figure.axes[0].texts)


def test_bars_of_all_encoders_share_an_axis_from_zero():
    first, second = accuracy_by_pooling(probing_table(), "k-NN").axes
    assert first.get_xlim() == second.get_xlim() and first.get_xlim()[0] == 0


def test_every_pooling_has_a_panel_by_layer_and_every_encoder_a_curve_and_a_band():
    table = probing_table()
    figure = accuracy_by_layer(table, "trained")
    assert [axes.get_title() for axes in panels(figure)] == ["cls", "mean", "abmilp(depth=2)"]
    for axes in panels(figure):
        assert [line.get_label() for line in axes.lines] == ["MAE", "DINO"]
        rows = table.query("encoder == 'DINO' and protocol == 'trained'")
        rows = rows[rows["pooling"] == axes.get_title()]
        np.testing.assert_allclose(axes.lines[1].get_xydata().T, [rows["layer"], 100 * rows["accuracy"]])
        band = axes.collections[1].get_paths()[0].get_extents()
        np.testing.assert_allclose([band.y0, band.y1], [100 * rows["low"].min(), 100 * rows["high"].max()])


def test_encoders_look_the_same_in_all_figures():
    table = probing_table()
    table = table[(table["encoder"] == "DINO") | (table["protocol"] == "trained")]
    assert to_hex(accuracy_by_labels(table, "k-NN").axes[0].lines[1].get_color()) == COLOURS[1]
    (bars,) = panels(accuracy_by_pooling(table, "k-NN"))
    assert to_hex(bars.patches[0].get_facecolor()) == COLOURS[1]


def test_labels_run_up_to_all_and_keep_draws_of_encoders_apart():
    table = probing_table()
    figure = accuracy_by_labels(table, "k-NN")
    axes = figure.axes[0]
    assert [panel.get_title() for panel in panels(figure)] == ["cls", "mean"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "10", "all"]
    one, two = (line.get_xdata() for line in axes.lines)
    assert (one < two).all() and np.array_equal(np.rint(one), [0, 1, 2])
    rows = table.query("encoder == 'MAE' and protocol == 'k-NN' and pooling == 'cls' and layer == 3")
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 100 * rows["accuracy"])


def test_final_norm_is_a_reading_of_its_own():
    table = probing_table()
    normed = table.assign(final_norm=True, accuracy=table["accuracy"] / 2)
    figure = accuracy_by_layer(pd.concat([table, normed]), "k-NN")
    assert [axes.get_title() for axes in panels(figure)] == ["cls", "mean", "cls + norm", "mean + norm"]


def test_of_several_numbers_of_neighbours_the_first_is_drawn():
    table = probing_table()
    several = pd.concat([table, table.assign(accuracy=0.99, neighbours=5)])
    for draw in (accuracy_by_layer, accuracy_by_labels):
        for line, only in zip(draw(several, "k-NN").axes[0].lines, draw(table, "k-NN").axes[0].lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), only.get_xydata())
    assert len(accuracy_by_pooling(several, "k-NN").axes[0].patches) == 2


@pytest.mark.parametrize("draw", [accuracy_by_pooling, accuracy_by_layer])
def test_one_encoder_layer_and_pooling_can_be_drawn(draw):
    figure = draw(probing_table(("MAE",), 1, ("mean",)), "trained")
    assert len(panels(figure)) == 1


def test_every_tenth_encoder_still_gets_a_panel_and_its_own_look():
    names = tuple(f"encoder {number}" for number in range(10))
    table = probing_table(names, 2, ("mean",))
    assert len(panels(accuracy_by_pooling(table, "trained"))) == 10
    lines = accuracy_by_layer(table, "trained").axes[0].lines
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 10


@pytest.mark.parametrize(
    ("draw", "protocol", "message"),
    [
        (accuracy_by_pooling, "linear", "protocol 'linear'"),
        (accuracy_by_labels, "trained", "with few labels"),
    ],
)
def test_rows_that_are_missing_are_named(draw, protocol, message):
    with pytest.raises(InputError, match=message):
        draw(probing_table(), protocol)


def test_maps_stand_beside_their_image_each_scaled_to_its_largest_weight():
    figure = pooling_pictures(PoolingPictures(IMAGES, MAPS | {"abmilp": 7 * MAPS["abmilp"]}))
    assert [axes.get_title() for axes in figure.axes[:3]] == ["input", "cls attention", "abmilp"]
    np.testing.assert_allclose(figure.axes[3].images[0].get_array(), IMAGES[1])
    for axes, weights in zip(figure.axes[1:3], MAPS.values()):
        (drawn,) = axes.images
        np.testing.assert_allclose(drawn.get_array(), weights[0])
        assert drawn.get_clim() == (0, 1) and drawn.get_interpolation() == "nearest"
        assert drawn.get_extent() == [-0.5, 11.5, 7.5, -0.5]


def test_many_maps_go_on_below_with_the_images_again():
    maps = {f"head {number}": np.ones((2, 2, 3), np.float32) for number in range(9)}
    titles = [axes.get_title() for axes in panels(pooling_pictures(PoolingPictures(IMAGES, maps)))]
    assert [title for title in titles if title] == ["input", *list(maps)[:6], "input", *list(maps)[6:]]


def test_grey_images_and_empty_maps_can_be_drawn():
    figure = pooling_pictures(PoolingPictures(IMAGES[..., :1], {"nothing": np.zeros((2, 2, 3), np.float32)}))
    assert figure.axes[1].images[0].get_array().max() == 0
    assert figure_bytes(figure, "png").startswith(b"\x89PNG")


def test_maps_of_other_images_and_no_maps_are_refused():
    with pytest.raises(InputError, match="'abmilp' has maps of 1 images"):
        PoolingPictures(IMAGES, {"abmilp": np.ones((1, 2, 3), np.float32)})
    with pytest.raises(InputError, match="no maps"):
        pooling_pictures(PoolingPictures(IMAGES, {}))


def test_files_of_probe_figures_are_the_same_every_time():
    table = probing_table(layers=1)
    for draw in (accuracy_by_pooling, accuracy_by_labels):
        assert figure_bytes(draw(table, "k-NN"), "svg") == figure_bytes(draw(table, "k-NN"), "svg")
