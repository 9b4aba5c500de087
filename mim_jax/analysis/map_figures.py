"""Pictures of maps on the grid of patches: where heads look, attention of chosen queries, rollout, norms of tokens."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Num, Real
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mim_jax.analysis.panels import (
    HEAT,
    bare,
    depth_lines,
    depth_panels,
    frame_patch,
    label_left,
    picture_bar,
    picture_grid,
    show_pictures,
)
from mim_jax.analysis.style import COLOURS, new_figure, styled
from mim_jax.errors import InputError

HEADS_IN_A_ROW, PICTURES_IN_A_ROW, NAMES_IN_A_LEGEND = 8, 6, 20
TILE, TILES = 0.5, 9.0  # inches, of a tile and of all side by side
PEAK = Normalize(0, 1)  # of a map by its own largest value


@styled
def aligned_maps(
    aligned: Float[np.ndarray, "l k h w"], encoder: str = "", *, layers: Sequence[int] | None = None
) -> Figure:
    """Attention by offset from the query, which is in the middle of its tile: layers downwards, heads to the right.

    Tiles are `[2 rows - 1, 2 columns - 1]`, each by its own largest value; a head that is missing (NaN) is white.
    `layers` are their numbers, by default from 1. After Walmer et al. 2023.

    Raises:
        InputError: if there is no map.
    """
    if not aligned.size:
        raise InputError("there are no aligned attention maps to draw; give at least one layer")
    (depth, heads, height, width), gap = aligned.shape, max(1, aligned.shape[-1] // 13)
    tiles = np.pad(_by_peak(aligned), ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    # One picture, because hundreds of panels are slow.
    mosaic = tiles.transpose(0, 2, 1, 3).reshape(depth * (height + gap), heads * (width + gap))
    side = min(TILE, TILES / heads)
    figure = new_figure(max(3.6, side * heads + 1.3), max(1.4, side * depth * height / width + 0.8))
    figure.set_layout_engine("compressed")
    axes = figure.subplots()
    axes.imshow(mosaic, cmap=HEAT, norm=PEAK, interpolation="nearest")
    bare(axes)
    axes.set_xticks(np.arange(heads) * (width + gap) + (width - 1) / 2, list(map(str, range(1, heads + 1))))
    names = list(map(str, layers or range(1, depth + 1)))
    axes.set_yticks(np.arange(depth) * (height + gap) + (height - 1) / 2, names)
    axes.tick_params(length=0)
    axes.set(xlabel="head", ylabel="layer", title=textwrap.fill(encoder, max(24, 5 * heads)))
    picture_bar(figure, PEAK, "largest\nof the head")
    return figure


@styled
def attention_grid(
    image: Real[np.ndarray, "h w c"],
    maps: Mapping[str, Float[np.ndarray, "k _ _"]],
    queries: Mapping[str, tuple[int, int]] | None = None,
    *,
    heads: Sequence[int] | None = None,
) -> Figure:
    """Attention of chosen queries in one image: for every title the image and a map `[rows columns]` for each head.

    Images are in 0..1 or of bytes. `queries` are row and column (from 0) of the query's patch by title, framed in red;
    a class token has none. Every map is by its own largest value. `heads` are their numbers, by default from 1.

    Raises:
        InputError: if there are no maps.
    """
    if not maps:
        raise InputError("there are no attention maps to draw; choose at least one query")
    count = max(map(len, maps.values()))
    titles, lines = [f"head {number}" for number in heads or range(1, count + 1)], -(-count // HEADS_IN_A_ROW)
    figure, grid = picture_grid(len(maps) * lines, [1.0] * (1 + -(-count // lines)), image.shape)
    for index, (title, heats) in enumerate(maps.items()):
        part = grid[index * lines : (index + 1) * lines]
        shown = [part[0, 0], *part[:, 1:].flat[:count]]
        show_pictures(shown, [title, *titles], image, _by_peak(heats), PEAK)
        if queries and title in queries:
            frame_patch(shown, queries[title], heats.shape[1:], image.shape)
    picture_bar(figure, PEAK, "largest of\nthe map")
    return figure


@styled
def triptychs(
    images: Real[np.ndarray, "n h w c"],
    class_maps: Float[np.ndarray, "a _ _"],
    selective_maps: Float[np.ndarray, "b _ _"],
) -> Figure:
    """Each image, where its class token looks and what selective aggregation takes, each map by its own largest value.

    Form of Przewiezlikowski et al. 2025.

    Raises:
        InputError: if there are no images, or not a map for each.
    """
    maps = {"class token": _by_peak(class_maps), "selective aggregation": _by_peak(selective_maps)}
    return _pictures(images, maps, PEAK, "largest of\nthe map")


@styled
def rollout_pictures(images: Real[np.ndarray, "n h w c"], maps: Float[np.ndarray, "m _ _"]) -> Figure:
    """Each image and its attention rollout (Abnar and Zuidema 2020), by its own largest value.

    Raises:
        InputError: if there are no images, or not a map for each.
    """
    return _pictures(images, {"attention rollout": _by_peak(maps)}, PEAK, "largest of\nthe map")


@styled
def norm_maps(images: Real[np.ndarray, "n h w c"], norms: Float[np.ndarray, "m _ _"]) -> Figure:
    """Each image and the norms of its patch tokens, all on one scale. After Darcet et al. 2024.

    Raises:
        InputError: if there are no images, or not a map for each.
    """
    scale = Normalize(norms.min(initial=np.inf), norms.max(initial=-np.inf))
    return _pictures(images, {"norms of tokens": norms}, scale)


@styled
def norm_histograms(
    counts: Mapping[str, Num[np.ndarray, "_ _"]], edges: Float[np.ndarray, "b"], *, first_layer: int = 1
) -> Figure:
    """Norms of tokens by layer: their share in every bin, logarithmic, from counts or shares `[l bins]` by encoder.

    `edges` are those of the bins, one more than bins; where all are above 0, norms are logarithmic too. Bins at either
    end that hold nothing are not shown. After Darcet et al. 2024.

    Raises:
        InputError: if there are no counts.
    """
    figure, panels = depth_panels(counts, first_layer)
    scale, middles = "log" if edges[0] > 0 else "linear", edges[1:] - np.diff(edges) / 2
    held = np.flatnonzero(np.any([own.any(axis=0) for own in counts.values()], axis=0))
    for encoder, axes in panels.items():
        shares = counts[encoder] / np.maximum(counts[encoder].sum(axis=1, keepdims=True), 1)
        # Dots, because a bin between empty ones has no line.
        depth_lines(axes, middles, np.where(shares > 0, shares, np.nan), marker=".", markersize=3)
        axes.set(xscale=scale, yscale="log", xlabel="norm of a token", xlim=edges[[held[0], held[-1] + 1]])
    label_left(panels.values(), "share of tokens")
    return figure


@styled
def embedding_scatter(
    points: Real[np.ndarray, "n 2"], labels: Sequence[str | int] | np.ndarray, title: str = ""
) -> Figure:
    """Points of an embedding into a plane (t-SNE), coloured by their label; the axes of such a plane mean nothing.

    Raises:
        InputError: if there are no points, or not a label for each.
    """
    if not len(points) or len(labels) != len(points):
        raise InputError(f"{len(points)} points with {len(labels)} labels cannot be drawn; give a label for each")
    names = list(dict.fromkeys(labels))
    colours = COLOURS if len(names) <= len(COLOURS) else colormaps["turbo"](np.linspace(0.03, 0.97, len(names)))
    axes = (figure := new_figure(5.4, 4.6)).subplots()
    for name, colour in zip(names, colours):
        own = points[[label == name for label in labels]]
        axes.scatter(*own.T, s=9, color=colour, alpha=0.75, linewidths=0, label=str(name))
    bare(axes)
    axes.set(aspect="equal", title=textwrap.fill(title, 44))
    if 1 < len(names) <= NAMES_IN_A_LEGEND:
        figure.legend(loc="outside right center", markerscale=2)
    return figure


def _by_peak(maps: Float[np.ndarray, "*m h w"]) -> Float[np.ndarray, "*m h w"]:
    return maps / np.maximum(maps.max((-2, -1), keepdims=True, initial=0), np.finfo(np.float32).tiny)


def _pictures(
    images: Real[np.ndarray, "n h w c"], maps: Mapping[str, np.ndarray], scale: Normalize, largest: str = ""
) -> Figure:
    """Each image with its maps beside it, several such sets in a row."""
    if not len(images) or any(len(heats) != len(images) for heats in maps.values()):
        kinds = " and ".join(maps)
        raise InputError(f"{len(images)} images cannot be drawn; give some, with one map of {kinds} for each")
    width = 1 + len(maps)
    lines = -(-len(images) // (PICTURES_IN_A_ROW // width))
    across = -(-len(images) // lines)
    figure, grid = picture_grid(lines, [*([1.0] * width), 0.1] * across, images.shape[1:])
    for index, (image, panels) in enumerate(zip(images, grid.reshape(-1, width + 1))):
        titles = ["input", *maps] if index < across else [""] * width
        show_pictures(panels[:width], titles, image, [heats[index] for heats in maps.values()], scale)
    picture_bar(figure, scale, largest)
    return figure
