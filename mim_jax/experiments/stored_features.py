"""Probes of stored features: nearest neighbours and logistic regression, with all labels and with few."""

import math
import time
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
from mim_jax.probing.evaluate import drawn_per_class, probe_with_labels
from mim_jax.probing.features import ProbeData
from mim_jax.probing.reading import Reading
from mim_jax.probing.selection import wilson_interval
from mim_jax.probing.table import ProbeRow

ZSCORE_EPSILON = 1e-5
STUDENT_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Draws to the factor on the standard error of their mean that gives its 95 % interval (1.96 for more)."""


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
    frozen = probed.settings.frozen
    choices = frozen.neighbours if protocol == "k-NN" else (0,)
    return [
        _row(probed, reading, data, protocol, labels, neighbours)
        for labels in (*frozen.shots, None)
        for neighbours in choices
    ]


def _row(
    probed: ProbedEncoder, reading: Reading, data: ProbeData, protocol: str, labels: float | None, neighbours: int
) -> ProbeRow:
    started, frozen = time.monotonic(), probed.settings.frozen
    outcomes = probe_with_labels(
        data,
        {"logistic": "linear"}.get(protocol, protocol),
        labels,
        draws=frozen.draws,
        seed=probed.settings.trained.seed,
        neighbours=neighbours,
        temperature=frozen.temperature,
    )
    accuracies, total = np.array([accuracy for accuracy, _ in outcomes]), len(data.test_labels)
    mean = float(accuracies.mean())
    low, high = wilson_interval(round(mean * total), total) if labels is None else _interval_of_draws(accuracies)
    return ProbeRow(
        encoder=probed.name,
        layer=reading.layer,
        pooling=reading.pooling,
        final_norm=reading.final_norm,
        protocol=protocol,
        accuracy=mean,
        low=low,
        high=high,
        images=total,
        seconds=time.monotonic() - started,
        labels_per_class=None if labels is None else round(float(drawn_per_class(data, labels).mean())),
        details=outcomes[0][1] | {"draws": len(outcomes), "scaling": frozen.scaling},
    )


def _interval_of_draws(accuracies: np.ndarray) -> tuple[float, float]:
    """Mean plus and minus 95 % of its scatter over draws; the mean itself for a single draw."""
    mean, draws = float(accuracies.mean()), len(accuracies)
    if draws < 2:
        return mean, mean
    half = STUDENT_95.get(draws, 1.96) * float(accuracies.std(ddof=1)) / math.sqrt(draws)
    return max(0.0, mean - half), min(1.0, mean + half)
