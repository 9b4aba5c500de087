"""The report of an analysis: which figures stand where, and what is said below each."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import matplotlib.figure
import numpy as np
import pandas as pd

from mim_jax.analysis.definitions import STATISTICS
from mim_jax.analysis.embedding_map import embedding_map
from mim_jax.analysis.figures import attention_dots
from mim_jax.analysis.head_figures import divergence_dots, head_heatmap, head_matrix, offset_scatter, sorted_heads
from mim_jax.analysis.layer_figures import fourier_spectra, layer_line_grid, singular_spectra
from mim_jax.analysis.map_figures import (
    aligned_maps,
    attention_grid,
    embedding_scatter,
    norm_histograms,
    norm_maps,
    rollout_pictures,
)
from mim_jax.analysis.panels import SPELLED
from mim_jax.analysis.report import Figure, Section, Table
from mim_jax.analysis.result import Analysis
from mim_jax.analysis.similarity_figures import cka_heatmaps
from mim_jax.ops.attention_compat import COMPAT
from mim_jax.ops.fourier import diagonal_frequencies
from mim_jax.ops.token_statistics import NORM_EDGES

Named = dict[str, matplotlib.figure.Figure]
LAYERS_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Options:
    """How similarity and pictures of features are made: as in the settings of the analysis."""

    cka: str = "unbiased"
    across: bool = True
    neighbours: int = 10
    embedding_map: str = "pca"
    seed: int = 0


def analysis_sections(analysis: Analysis, options: Options = Options()) -> Iterator[tuple[Section, Named]]:
    """Every section that there is something for, with its figures by file name."""
    for title, parts in SECTIONS.items():
        found = [part for make in parts for part in make(analysis, options)]
        if found:
            named = {name: figure.content for name, figure in found if isinstance(figure, Figure)}
            yield Section(title, [part for _, part in found]), named


Parts = Iterator[tuple[str, Any]]


def _has(analysis: Analysis, statistic: str, query: str | None = None, heads: bool = False) -> bool:
    rows = analysis.table[analysis.table["statistic"] == statistic]
    rows = rows if query is None else rows[rows["query"] == query]
    return bool(len(rows[rows["head"].notna()] if heads else rows))


def _defined(*names: str) -> str:
    """Captions: the definitions, as they stand in the table."""
    return " ".join(
        f"{name.replace('_', ' ')} ({STATISTICS[name].unit}): {STATISTICS[name].definition}." for name in names
    )


def _uniform(analysis: Analysis, statistic: str) -> Mapping[str, float | list[float]]:
    values = {name: layout.uniform(statistic) for name, layout in analysis.layouts.items()}
    return {name: value for name, value in values.items() if value is not None}


INTERVALS = "Lines through dots and bands around lines are 95 % intervals over images."


def distance(analysis: Analysis, options: Options) -> Parts:
    """Dots by head and layer: distance and entropy (Xie et al. 2023, figures 1 and 3)."""
    for name in ("attention_distance", "attention_entropy"):
        if _has(analysis, name, "patches", heads=True):
            figure = attention_dots(analysis.table, name, uniform=_uniform(analysis, name))
            yield name, Figure(figure, f"A dot for every head. {_defined(name)} {INTERVALS} Dashed: uniform attention.")


def divergence(analysis: Analysis, options: Options) -> Parts:
    """Divergence between heads (Xie et al. 2023, figure 4)."""
    if _has(analysis, "kl_between_heads", heads=True):
        figure = divergence_dots(analysis.table)
        note = "Small dots: a head against the others; large dots: the layer."
        yield "kl_between_heads", Figure(figure, f"{note} {_defined('kl_between_heads')}")
    if _has(analysis, "jensen_shannon_between_heads"):
        figure = divergence_dots(analysis.table, "jensen_shannon_between_heads")
        yield "jensen_shannon", Figure(figure, _defined("jensen_shannon_between_heads"))


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
    yield from _lines(analysis, "class_and_patches", wanted)


def depth_curves(analysis: Analysis, options: Options) -> Parts:
    """Distance, mutual information and frequencies over depth (Park et al. 2023)."""
    wanted = [
        ("attention_distance", "patches", "attention distance"),
        ("normalised_mutual_information", "patches", "mutual information"),
        ("fourier_relative_log_amplitude", "", "highest frequency"),
    ]
    yield from _lines(analysis, "depth_curves", wanted)
    amplitudes = {
        name: _stacked(own["fourier_relative_log_amplitude"], first=0)
        for name, own in analysis.arrays.items()
        if "fourier_relative_log_amplitude" in own and len(analysis.layouts[name].depths) == 1
    }
    grids = {min(analysis.layouts[name].grid) for name in amplitudes}
    if len(grids) == 1 and grids != {1}:
        frequencies = diagonal_frequencies((grids.copy().pop(),) * 2)
        figure = fourier_spectra(amplitudes, frequencies=frequencies, first_layer=0)
        note = "Log amplitude of the feature map along the half diagonal less that at zero frequency; layer 0 is the "
        yield "fourier_spectra", Figure(figure, note + "embedded patches.")


def _lines(analysis: Analysis, name: str, wanted: list[tuple[str, str, str]]) -> Parts:
    there = [panel for panel in wanted if _has(analysis, panel[0], panel[1])]
    if not there:
        return
    references = {
        title: _uniform(analysis, statistic) or None
        for statistic, query, title in there
        if query in ("class", "patches")
    }
    rows = analysis.table[analysis.table["layer"] > 0]
    figure = layer_line_grid(rows, there, references=references)
    statistics = dict.fromkeys(statistic for statistic, _, _ in there)
    yield name, Figure(figure, f"{_defined(*statistics)} {INTERVALS}")


def heads_in_detail(analysis: Analysis, options: Options) -> Parts:
    """Single heads: a map of distances, sorted heads, offsets, divergence matrices, aligned maps."""
    if _has(analysis, "attention_distance", "patches", heads=True):
        yield (
            "heads_distance",
            Figure(head_heatmap(analysis.table, "attention_distance"), _defined("attention_distance")),
        )
        figure = sorted_heads(analysis.table, "attention_distance")
        yield "heads_sorted", Figure(figure, "Heads of every layer from the nearest to the farthest looking one.")
    if _has(analysis, "row_offset", heads=True) and _has(analysis, "column_offset", heads=True):
        yield "offsets", Figure(offset_scatter(analysis.table), _defined("row_offset", "column_offset"))
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


def token_norms(analysis: Analysis, options: Options) -> Parts:
    """Lengths of tokens and outliers."""
    wanted = [
        ("token_norm", "patches", "norm of patch tokens"),
        ("token_norm", "class", "norm of the class token"),
        ("outlier_share", "patches", "outliers"),
        ("mlp_update_magnitude", "patches", "update by the MLP"),
        ("feature_variance", "", "feature variance"),
    ]
    yield from _lines(analysis, "tokens", wanted)
    histograms = {
        name: _stacked(own["norm_histogram"], first=0)
        for name, own in analysis.arrays.items()
        if "norm_histogram" in own
    }
    if histograms:
        figure = norm_histograms(histograms, NORM_EDGES, first_layer=0)
        yield (
            "norm_histograms",
            Figure(figure, "Share of all tokens by their norm behind every layer, before any final norm."),
        )


def similarity(analysis: Analysis, options: Options) -> Parts:
    """CKA and shared neighbours of layers and encoders."""
    for kind in [*analysis.kinds, *analysis.token_cka]:
        # The class token is the same for every image until it has seen one.
        first = 1 if kind == "class" else 0
        matrices = analysis.cka(kind, options.cka, across=options.across)
        shown = {names: matrix[first:, first:] for names, matrix in matrices.items()}
        caption = f"linear CKA, {options.cka}; sample: {kind}"
        figure = cka_heatmaps(shown, caption, first_layer=first)
        yield f"cka_{kind}", Figure(figure, f"{caption}, {SAMPLES[kind]} Layer 0 is the embedded patches.")


SAMPLES = {
    "class": "the class token of an image.",
    "pooled": "the mean of the patch tokens of an image.",
    "flattened": "all patch tokens of an image in one vector, in minibatches.",
    "tokens": "every patch token by itself.",
}


def spectra(analysis: Analysis, options: Options) -> Parts:
    """Singular values of features and tokens, and what is read off them."""
    for kind in analysis.kinds:
        values = {name: np.exp(_padded(own)) for name, own in analysis.spectra(kind).items()}
        note = f"Singular values of the centred features over the largest one; sample: {kind}, {SAMPLES[kind]}"
        yield f"spectra_{kind}", Figure(singular_spectra(values, first_layer=0), note)
        ranks = [
            (name, kind, SPELLED.get(name, name.replace("_", " ")))
            for name in ("rankme", "rankme_centered", "effective_rank", "alpha_req")
        ]
        yield from _lines(analysis, f"ranks_{kind}", ranks)
    yield from _lines(analysis, "token_spectra", [("top_singular_share", "", "first singular value of tokens")])


def embeddings(analysis: Analysis, options: Options) -> Parts:
    """The features of the last layer in the plane."""
    if not options.embedding_map or "pooled" not in analysis.kinds:
        return
    for name, layers in analysis.layers("pooled").items():
        found = embedding_map(layers[-1], options.embedding_map, seed=options.seed)
        labels = analysis.labels[found.indices].tolist() if len(analysis.labels) else ["image"] * len(found.indices)
        figure = embedding_scatter(found.points, labels, name)
        yield (
            f"embedding_{name}",
            Figure(figure, f"{name}: mean patch tokens of the last block by {options.embedding_map}."),
        )


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


def _stacked(layers: Mapping[int, np.ndarray], first: int) -> np.ndarray:
    return np.stack([values for layer, values in layers.items() if layer >= first])


def _padded(layers: list[np.ndarray]) -> np.ndarray:
    """Spectra of all layers in one array; what is missing is NaN."""
    longest = max(map(len, layers))
    return np.stack([np.pad(own, (0, longest - len(own)), constant_values=np.nan) for own in layers])


SECTIONS: dict[str, list[Callable[[Analysis, Options], Parts]]] = {
    "How far and how broadly heads look": [distance],
    "How differently heads look": [divergence],
    "Class token and patches": [class_and_patches],
    "Over depth": [depth_curves],
    "Single heads": [heads_in_detail],
    "Tokens": [token_norms],
    "Similarity of layers": [similarity],
    "Spectra of features": [spectra],
    "Features in the plane": [embeddings],
    "Pictures": [pictures],
    "Other definitions": [compat],
    "Numbers": [all_rows],
}
