"""Parts of a report about features: tokens, similarity of layers, spectra, maps in the plane."""

import numpy as np

from mim_jax.analysis.embedding_map import embedding_map
from mim_jax.analysis.layer_figures import singular_spectra
from mim_jax.analysis.map_figures import (
    embedding_scatter,
    norm_histograms,
)
from mim_jax.analysis.panels import SPELLED
from mim_jax.analysis.report import Figure
from mim_jax.analysis.result import Analysis
from mim_jax.analysis.section_parts import Options, Parts, lines, padded, stacked
from mim_jax.analysis.similarity_figures import cka_heatmaps
from mim_jax.ops.token_statistics import NORM_EDGES


def token_norms(analysis: Analysis, options: Options) -> Parts:
    """Lengths of tokens and outliers."""
    wanted = [
        ("token_norm", "patches", "norm of patch tokens"),
        ("token_norm", "class", "norm of the class token"),
        ("outlier_share", "patches", "outliers"),
        ("mlp_update_magnitude", "patches", "update by the MLP"),
        ("feature_variance", "", "feature variance"),
    ]
    yield from lines(analysis, "tokens", wanted)
    histograms = {
        name: stacked(own["norm_histogram"], first=0)
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
    for kind in analysis.compared:
        # The class token is the same for every image until it has seen one.
        first = 1 if kind == "class" else 0
        matrices = analysis.cka(kind, options.cka, across=options.across)
        shown: dict[str | tuple[str, str], np.ndarray] = {
            names: matrix[first:, first:] for names, matrix in matrices.items()
        }
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
        values = {name: np.exp(padded(own)) for name, own in analysis.spectra(kind).items()}
        note = f"Singular values of the centred features over the largest one; sample: {kind}, {SAMPLES[kind]}"
        yield f"spectra_{kind}", Figure(singular_spectra(values, first_layer=0), note)
        ranks = [
            (name, kind, SPELLED.get(name, name.replace("_", " ")))
            for name in ("rankme", "rankme_centered", "effective_rank", "alpha_req")
        ]
        yield from lines(analysis, f"ranks_{kind}", ranks)
    yield from lines(analysis, "token_spectra", [("top_singular_share", "", "first singular value of tokens")])


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
