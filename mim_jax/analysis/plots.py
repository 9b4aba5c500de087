"""Figures of an analysis by name, for notebooks."""

import dataclasses
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mim_jax.analysis.definitions import STATISTICS
from mim_jax.analysis.figures import attention_dots
from mim_jax.analysis.head_figures import divergence_dots
from mim_jax.analysis.layer_figures import layer_lines, singular_spectra
from mim_jax.analysis.section_parts import padded
from mim_jax.analysis.similarity_figures import cka_heatmaps
from mim_jax.errors import InputError, nearest


@dataclasses.dataclass(frozen=True)
class Plots:
    """`plot.NAME()` draws the statistic NAME: dots by head where heads have it, else a line over layers."""

    analysis: Any

    def __getattr__(self, statistic: str) -> Any:
        if statistic.startswith("_"):
            raise AttributeError(statistic)
        if statistic not in STATISTICS:
            raise InputError(f"no figure or statistic '{statistic}'; {nearest(statistic, STATISTICS)}")
        return lambda **options: self._draw(statistic, **options)

    def _draw(self, statistic: str, query: str = "patches", **options: Any) -> Figure:
        table = self.analysis.table
        rows = table[table["statistic"] == statistic]
        if statistic == "kl_between_heads":
            return divergence_dots(table, **options)
        if query == "patches" and (rows["head"].notna() & (rows["query"] == "patches")).any():
            uniform = {name: layout.uniform(statistic) for name, layout in self.analysis.layouts.items()}
            known = {name: value for name, value in uniform.items() if value is not None}
            return attention_dots(table, statistic, uniform=known or None, **options)
        queries = list(rows["query"].unique())
        return layer_lines(table, statistic, query if query in queries or not queries else queries[0], **options)

    def cka(self, kind: str = "pooled", estimator: str = "unbiased") -> Figure:
        """CKA of all layers of all encoders."""
        matrices = self.analysis.cka(kind, estimator)
        return cka_heatmaps(matrices, f"linear CKA, {estimator}; sample: {kind}", first_layer=0)

    def spectra(self, kind: str = "pooled") -> Figure:
        """Singular values of the features of every layer."""
        return singular_spectra({name: np.exp(padded(own)) for name, own in self.analysis.spectra(kind).items()})
