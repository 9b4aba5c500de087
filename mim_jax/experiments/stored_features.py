"""Probes of stored features: nearest neighbours and logistic regression, with all labels and with few."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mim_jax.data.sources import Source
from mim_jax.data.subset import Subset, random_subset
from mim_jax.experiments.evaluation import on_host
from mim_jax.experiments.placed_encoder import listing_hash
from mim_jax.experiments.probed_encoder import ProbedEncoder
from mim_jax.probing.cache import Arrays, FeatureCache
from mim_jax.probing.evaluate import probe_row
from mim_jax.probing.features import ProbeData
from mim_jax.probing.reading import Reading
from mim_jax.probing.table import ProbeRow, Read

ZSCORE_EPSILON = 1e-5


def probe_stored_features(
    probed: ProbedEncoder, train: Source, test: Source, protocols: Sequence[str], folder: Path
) -> list[ProbeRow]:
    """Rows of all protocols for every reading whose pooling needs no training."""
    settings = probed.settings
    part = random_subset(train, settings.frozen.train_images, settings.trained.seed)
    stored = {name: extract(probed, source, folder) for name, source in (("train", part), ("test", test))}
    rows = []
    for reading in sorted(probed.fixed, key=probed.readings.index):
        name = str(reading)
        (x, y), (test_x, test_y) = ((arrays[name], arrays["label"]) for arrays in (stored["train"], stored["test"]))
        data = ProbeData(f"{probed.name}, {name}", *_scaled(settings.frozen.scaling, x, test_x, y, test_y))
        for protocol in protocols:
            rows += _rows(probed, reading, data, protocol)
    return rows


def extract(probed: ProbedEncoder, source: Source, folder: Path) -> Arrays:
    """Pooled features of every reading, and `label`, of all images in order; kept on disk."""
    size = probed.placed.rows

    def compute(start: int) -> Iterator[Arrays]:
        rest = Subset(source, np.arange(start * size, len(source)))
        for batch in probed.evaluation_batches(rest):
            pooled, label, valid = on_host((batch["inputs"]["pooled"], batch["label"], batch["valid"]))
            yield {name: values[valid] for name, values in (pooled | {"label": label}).items()}

    cache = FeatureCache(folder / "features", f"{probed.fingerprint}-{listing_hash(source, size)}")
    return cache.collect(math.ceil(len(source) / size), compute, active=jax.process_index() == 0)


def _scaled(scaling: str, x: np.ndarray, test_x: np.ndarray, y: np.ndarray, test_y: np.ndarray) -> tuple[Any, ...]:
    """Both parts, with "z-score" by the mean and deviation of the training part."""
    if scaling == "z-score":
        mean, deviation = x.mean(axis=0), x.std(axis=0) + ZSCORE_EPSILON
        x, test_x = (x - mean) / deviation, (test_x - mean) / deviation
    return x, y, test_x, test_y


def _rows(probed: ProbedEncoder, reading: Reading, data: ProbeData, protocol: str) -> list[ProbeRow]:
    frozen, read = probed.settings.frozen, Read(probed.name, *dataclasses.astuple(reading))
    rows = [
        probe_row(
            read,
            data,
            protocol,
            labels,
            draws=frozen.draws,
            seed=probed.settings.trained.seed,
            neighbours=neighbours,
            temperature=frozen.temperature,
        )
        for labels in (*frozen.shots, None)
        for neighbours in (frozen.neighbours if protocol == "k-NN" else (0,))
    ]
    return [dataclasses.replace(row, details={**row.details, "scaling": frozen.scaling}) for row in rows]
