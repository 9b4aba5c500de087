"""Parts of a report about attention: heads, class token and patches, depth, pictures."""

import numpy as np
import pandas as pd

from mim_jax.analysis.figures import attention_dots
from mim_jax.analysis.head_figures import divergence_dots, head_heatmap, head_matrix, offset_scatter, sorted_heads
from mim_jax.analysis.layer_figures import fourier_spectra
from mim_jax.analysis.map_figures import (
    aligned_maps,
    attention_grid,
    norm_maps,
    rollout_pictures,
)
from mim_jax.analysis.report import Figure, Table
from mim_jax.analysis.result import Analysis
from mim_jax.analysis.section_parts import INTERVALS, Options, Parts, defined, has, lines, stacked, uniform
from mim_jax.ops.attention_compat import COMPAT
from mim_jax.ops.fourier import diagonal_frequencies

LAYERS_SHOWN = 4


def distance(analysis: Analysis, options: Options) -> Parts:
    """Dots by head and layer: distance and entropy (Xie et al. 2023, figures 1 and 3)."""
    for name in ("attention_distance", "attention_entropy"):
        if has(analysis, name, "patches", heads=True):
            figure = attention_dots(analysis.table, name, uniform=uniform(analysis, name))
            yield name, Figure(figure, f"A dot for every head. {defined(name)} {INTERVALS} Dashed: uniform attention.")


def divergence(analysis: Analysis, options: Options) -> Parts:
    """Divergence between heads (Xie et al. 2023, figure 4)."""
    if has(analysis, "kl_between_heads", heads=True):
        figure = divergence_dots(analysis.table)
        note = "Small dots: a head against the others; large dots: the layer."
        yield "kl_between_heads", Figure(figure, f"{note} {defined('kl_between_heads')}")
    if has(analysis, "jensen_shannon_between_heads"):
        figure = divergence_dots(analysis.table, "jensen_shannon_between_heads")
        yield "jensen_shannon", Figure(figure, defined("jensen_shannon_between_heads"))


def class_and_patches(analysis: Analysis, options: Options) -> Parts:
    """Lines over blocks of Beyond [cls]."""
    wanted = [
        ("self_attention", "class", "class token to itself"),
        ("self_attention", "patches", "patch to itself"),
        ("attention_to_class", "patches", "patch to class token"),
        ("attention_entropy", "class", "entropy, class token"),
        ("attention_entropy", "patches", "entropy, patches"),
        ("update_magnitude", "class", "update of class token"),
        ("update_magnitude", "patches", "update of patches"),
        ("attention_to_registers", "patches", "patch to registers"),
        ("self_attention", "registers", "register to itself"),
    ]
    yield from lines(analysis, "class_and_patches", wanted)


def depth_curves(analysis: Analysis, options: Options) -> Parts:
    """Distance, mutual information and frequencies over depth (Park et al. 2023)."""
    wanted = [
        ("attention_distance", "patches", "attention distance"),
        ("normalised_mutual_information", "patches", "mutual information"),
        ("fourier_relative_log_amplitude", "", "highest frequency"),
    ]
    yield from lines(analysis, "depth_curves", wanted)
    amplitudes = {
        name: stacked(own["fourier_relative_log_amplitude"], first=0)
        for name, own in analysis.arrays.items()
        if "fourier_relative_log_amplitude" in own and len(analysis.layouts[name].depths) == 1
    }
    grids = {min(analysis.layouts[name].grid) for name in amplitudes}
    if len(grids) == 1 and grids != {1}:
        side = min(grids)
        frequencies = diagonal_frequencies((side, side))
        figure = fourier_spectra(amplitudes, frequencies=frequencies, first_layer=0)
        note = "Log amplitude of the feature map along the half diagonal less that at zero frequency; layer 0 is the "
        yield "fourier_spectra", Figure(figure, note + "embedded patches.")


def heads_in_detail(analysis: Analysis, options: Options) -> Parts:
    """Single heads: a map of distances, sorted heads, offsets, divergence matrices, aligned maps."""
    if has(analysis, "attention_distance", "patches", heads=True):
        yield (
            "heads_distance",
            Figure(head_heatmap(analysis.table, "attention_distance"), defined("attention_distance")),
        )
        figure = sorted_heads(analysis.table, "attention_distance")
        yield "heads_sorted", Figure(figure, "Heads of every layer from the nearest to the farthest looking one.")
    if has(analysis, "row_offset", heads=True) and has(analysis, "column_offset", heads=True):
        yield "offsets", Figure(offset_scatter(analysis.table), defined("row_offset", "column_offset"))
    for name, own in analysis.arrays.items():
        last = analysis.layouts[name].depths[-1]
        if "kl_between_heads" in own:
            layers = list(own["kl_between_heads"])[-last:][-LAYERS_SHOWN:]
            stacked = np.stack([own["kl_between_heads"][layer] for layer in layers])
            figure = head_matrix(stacked, layers=layers, title=name)
            yield f"head_matrix_{name}", Figure(figure, f"{name}: KL divergence of a head (row) from another (column).")
        if "aligned_attention" in own:
            layers = list(own["aligned_attention"])[-last:]
            stacked = np.stack([own["aligned_attention"][layer] for layer in layers])
            note = "attention renormalised over patches, every query moved to the middle, mean over queries and images."
            yield f"aligned_{name}", Figure(aligned_maps(stacked, name, layers=layers), f"{name}: {note}")


def pictures(analysis: Analysis, options: Options) -> Parts:
    """Where the last block looks in a few images."""
    for name, own in analysis.pictures.items():
        for number, image in enumerate(own.images if own.attention else ()):
            maps = {title: attention[number] for title, attention in own.attention.items()}
            figure = attention_grid(image, maps, own.queries)
            yield (
                f"attention_{name}_{number}",
                Figure(figure, f"{name}: attention of the last block by head, of the queries shown."),
            )
        if own.rollout is not None:
            note = "attention rollout from the class token (Abnar and Zuidema 2020)."
            yield f"rollout_{name}", Figure(rollout_pictures(own.images, own.rollout), f"{name}: {note}")
        yield (
            f"norms_{name}",
            Figure(norm_maps(own.images, own.norms), f"{name}: norms of the last block's patch tokens."),
        )


def compat(analysis: Analysis, options: Options) -> Parts:
    """The number that each paper's code would give, beside ours."""
    table = compat_table(analysis.table)
    if len(table):
        yield "compat", Table(table, "Mean over heads and images; the code of each paper against the definitions here.")


def compat_table(table: pd.DataFrame) -> pd.DataFrame:
    """Encoder, layer, what a paper's code gives, and ours, as means over heads."""
    layers = table[table["head"].isna()].set_index(["encoder", "layer", "query", "statistic"])["value"]
    rows = [
        (
            encoder,
            layer,
            name,
            value,
            layers.get((encoder, layer, COMPAT[name].query, COMPAT[name].statistic)),
            *_told(name),
        )
        for (encoder, layer, _, name), value in layers.items()
        if name in COMPAT
    ]
    names = ["encoder", "layer", "their statistic", "theirs", "ours", "our statistic", "difference"]
    return pd.DataFrame(rows, columns=names)


def _told(name: str) -> tuple[str, str]:
    known = COMPAT[name]
    return f"{known.statistic} ({known.query})", known.difference


def all_rows(analysis: Analysis, options: Options) -> Parts:
    """The table itself, of whole layers; heads are in the file."""
    rows = analysis.table[analysis.table["head"].isna() & ~analysis.table["statistic"].isin(list(COMPAT))]
    note = "Means over heads, by layer. Single heads and all definitions are in statistics.csv and statistics.parquet."
    yield "table", Table(rows.drop(columns=["head", "definition"]), note)
