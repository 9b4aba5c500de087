"""The report of an analysis: which figures stand where."""

from collections.abc import Callable, Iterator

import matplotlib.figure

from mim_jax.analysis.attention_sections import (
    all_rows,
    class_and_patches,
    compat,
    depth_curves,
    distance,
    divergence,
    heads_in_detail,
    pictures,
)
from mim_jax.analysis.feature_sections import embeddings, similarity, spectra, token_norms
from mim_jax.analysis.report import Figure, Section
from mim_jax.analysis.result import Analysis
from mim_jax.analysis.section_parts import Options, Parts

Named = dict[str, matplotlib.figure.Figure]


def analysis_sections(analysis: Analysis, options: Options = Options()) -> Iterator[tuple[Section, Named]]:
    """Every section that there is something for, with its figures by file name."""
    for title, parts in SECTIONS.items():
        found = [part for make in parts for part in make(analysis, options)]
        if found:
            named = {name: figure.content for name, figure in found if isinstance(figure, Figure)}
            yield Section(title, [part for _, part in found]), named


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
