"""What an analysis found, of one encoder or of several side by side."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mim_jax.analysis.collecting import Features
from mim_jax.analysis.representations import (
    FEWEST_IMAGES,
    Layers,
    Matrix,
    compare,
    layers_cka,
    layers_neighbours,
    log_spectra,
)
from mim_jax.analysis.tables import Arrays, save_arrays, save_table
from mim_jax.errors import InputError
from mim_jax.files import write_arrays
from mim_jax.models.encoder import EncoderConfig
from mim_jax.ops.attention_statistics import uniform_attention_distance, uniform_attention_entropy
from mim_jax.ops.showing import shown
from mim_jax.paths import local_path

Pair = tuple[int, int]
Matrices = dict[tuple[str, str], Matrix]


@dataclasses.dataclass(frozen=True)
class Layout:
    """What figures need to know of an encoder.

    Attributes:
        grid: rows and columns of patches as they are embedded.
        patch_size: in pixels.
        prefix: number of prefix tokens.
        depths: blocks in every stage.
        windows: rows and columns of the attention windows of every stage; none where attention is global.
    """

    grid: Pair
    patch_size: Pair
    prefix: int
    depths: tuple[int, ...]

    windows: tuple[Pair, ...] = ()

    def uniform(self, statistic: str) -> float | list[float] | None:
        """What uniform attention would show, of every layer where there are windows; None if nothing is known."""
        if statistic not in UNIFORM:
            return None
        if not self.windows:
            return UNIFORM[statistic](self.grid, self.patch_size)
        strides = [(self.patch_size[0] << stage, self.patch_size[1] << stage) for stage in range(len(self.depths))]
        of_stages = [UNIFORM[statistic](*own) for own in zip(self.windows, strides, strict=True)]
        return [value for value, depth in zip(of_stages, self.depths) for _ in range(depth)]


UNIFORM = {
    "attention_distance": uniform_attention_distance,
    "attention_entropy": lambda grid, patch_size: uniform_attention_entropy(grid),
}
"""What a head shows that attends to everything alike, by grid and patch size."""


def layout_of(config: EncoderConfig) -> Layout:
    """The layout of an encoder of this configuration."""
    windows = getattr(config, "stage_windows", ())  # of an encoder with windows
    return Layout(config.grid, config.patch_size, config.prefix, config.depths, windows)


@dataclasses.dataclass(frozen=True)
class Pictures:
    """A few images under one encoder.

    Attributes:
        images: in 0..1, `[n h w c]`.
        queries: the grid place of every query patch, by its name in `attention`.
        attention: attention of a query in the last block by name ("class", or the query patch), `[n k rows columns]`.
        rollout: rollout from the class token, or None, `[n rows columns]`.
        norms: norms of the patch tokens behind the last block, `[n rows columns]`.
    """

    images: np.ndarray
    queries: dict[str, Pair]
    attention: dict[str, np.ndarray]
    rollout: np.ndarray | None
    norms: np.ndarray

    def __repr__(self) -> str:
        return shown(self)


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Tables and arrays of one or several encoders.

    Attributes:
        table: the tidy table of all statistics.
        layouts: by encoder.
        arrays: means over images, by encoder, name and layer.
        features: by encoder, of the same images in the same order.
        labels: names of their classes; empty if unknown.
        pictures: by encoder.
        token_cka: CKA of samples that are not kept, by kind of sample.
    """

    table: pd.DataFrame
    layouts: dict[str, Layout]
    arrays: dict[str, Arrays] = dataclasses.field(default_factory=dict)
    features: dict[str, Features] = dataclasses.field(default_factory=dict)
    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, str))
    pictures: dict[str, Pictures] = dataclasses.field(default_factory=dict)
    token_cka: dict[str, Matrices] = dataclasses.field(default_factory=dict)
    _known: dict[Any, Matrices] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        kept = f"features of {self.images:,} images ({', '.join(self.kinds)})" if self.features else "no features"
        pictures = f"pictures of {len(next(iter(self.pictures.values())).images)} images" if self.pictures else ""
        return "\n  ".join(
            [
                f"Analysis of {', '.join(self.encoders)}",
                f"df: {len(self.table):,} rows, {self.table['statistic'].nunique()} statistics",
                ", ".join(filter(None, ["also " + kept, pictures])),
                "plot.attention_distance() and others draw, report(path) writes a page, compare(other) joins two",
            ]
        )

    @property
    def df(self) -> pd.DataFrame:
        """The tidy table."""
        return self.table

    @property
    def encoders(self) -> list[str]:
        """Names of the encoders, in their order."""
        return list(self.layouts)

    @property
    def kinds(self) -> list[str]:
        """Kinds of sample whose features are kept."""
        return sorted({kind for own in self.features.values() for kind in own})

    @property
    def images(self) -> int:
        """Number of images whose features are kept."""
        return min((len(layers[0]) for own in self.features.values() for layers in own.values()), default=0)

    @property
    def compared(self) -> list[str]:
        """Kinds of sample that CKA can be taken of: it needs four images."""
        return [*(self.kinds if self.images >= FEWEST_IMAGES else ()), *self.token_cka]

    def layers(self, kind: str) -> dict[str, Layers]:
        """Features by layer of the encoders that have this kind of sample; raises InputError if none has."""
        found: dict[str, Layers] = {name: own[kind] for name, own in self.features.items() if kind in own}
        if not found:
            raise InputError(f"no features of the kind '{kind}' were kept; there are {', '.join(self.kinds) or 'none'}")
        return found

    def cka(self, kind: str = "pooled", estimator: str = "unbiased", *, across: bool = True) -> Matrices:
        """CKA of layers against layers for every pair of encoders."""
        if kind in self.token_cka:
            return self.token_cka[kind]
        key = kind, estimator, across
        if key not in self._known:
            self._known[key] = compare(self.layers(kind), lambda x, y: layers_cka(x, y, estimator), across=across)
        return self._known[key]

    def nearest_neighbours(self, kind: str = "pooled", neighbours: int = 10, *, across: bool = True) -> Matrices:
        """Mutual k-NN of layers against layers for every pair of encoders."""
        return compare(self.layers(kind), lambda x, y: layers_neighbours(x, y, neighbours), across=across)

    def spectra(self, kind: str = "pooled") -> dict[str, list[np.ndarray]]:
        """ln sigma_i - ln sigma_1 of the centred features by encoder and layer."""
        return {name: log_spectra(own) for name, own in self.layers(kind).items()}

    def compare(self, other: "Analysis") -> "Analysis":
        """Both side by side; raises InputError if an encoder's name stands in both."""
        if both := set(self.layouts) & set(other.layouts):
            raise InputError(f"both analyses have an encoder called '{min(both)}'; give them different names")
        joined: dict[str, Any] = {
            field: {**getattr(self, field), **getattr(other, field)}
            for field in ("layouts", "arrays", "features", "pictures")
        }
        table = pd.concat([self.table, other.table], ignore_index=True)
        return Analysis(table, **joined, labels=self.labels if len(self.labels) else other.labels)

    @property
    def plot(self) -> Any:
        """Figures by name, as `result.plot.attention_distance()`."""
        from mim_jax.analysis.plots import Plots

        return Plots(self)

    def report(self, path: str | Path, title: str = "Analysis") -> Path:
        """Writes one self-contained HTML page with all figures and tables; returns its path."""
        from mim_jax.analysis.report import write_report
        from mim_jax.analysis.sections import analysis_sections

        sections = [section for section, _ in analysis_sections(self)]
        return write_report(path, title=title, sections=sections, summary=self.summary())

    def summary(self) -> str:
        """What was measured, in a sentence."""
        counts = self.table.dropna(subset="standard_error").groupby("encoder", sort=False)["n"].max()
        of = ", ".join(f"{name} over {int(count):,} images" for name, count in counts.items())
        return f"Statistics of {of or ', '.join(self.encoders)}; intervals are 95 % over images."

    def save(self, folder: str | Path) -> Path:
        """Writes `statistics.csv` and `.parquet`, and the arrays of every encoder as `arrays_NAME.npz`."""
        folder = local_path(folder)
        save_table(self.table, folder, "statistics")
        for name, arrays in self.arrays.items():
            save_arrays(arrays, folder / f"arrays_{name}.npz")
        return folder


def save_matrices(matrices: Mapping[str, Matrices], path: Path) -> Path:
    """Writes matrices by measure and pair of encoders into one npz file, as MEASURE/ONE/OTHER."""
    flat = {f"{measure}/{a}/{b}": matrix for measure, own in matrices.items() for (a, b), matrix in own.items()}
    return write_arrays(path, flat, compressed=True)
