"""Probes of features: nearest neighbours and logistic regression, with few labels and with all."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mim_jax.errors import InputError
from mim_jax.ops.intervals import interval_of_mean
from mim_jax.probing.draws import draw_per_class
from mim_jax.probing.features import ProbeData
from mim_jax.probing.knn import knn_accuracy
from mim_jax.probing.logistic import WITHOUT_CHOICE, logistic_probe
from mim_jax.probing.selection import wilson_interval
from mim_jax.probing.table import ProbeRow, Read

NEIGHBOURS = 20
TEMPERATURE = 0.07

Outcome = tuple[float, dict[str, Any]]


def probe_features(
    read: Read,
    train_x: Float[np.ndarray, "_ _"],
    train_y: Int[np.ndarray, "_"],
    test_x: Float[np.ndarray, "_ _"],
    test_y: Int[np.ndarray, "_"],
    *,
    seed: int,
    shots: Sequence[int] = (1, 5, 10),
    draws: int = 5,
) -> list[ProbeRow]:
    """Probes the features of what was `read` with `shots` labels a class (mean of `draws`) and with all.

    `train_x` is `[n d]` with labels `train_y` `[n]`, `test_x` is `[m d]` with labels `test_y` `[m]`.
    The draws depend on labels and seed only: every encoder is probed with the same images. k-NN takes
    `min(20, labels a class)` neighbours, so one label a class means the nearest neighbour; logistic regression
    has a fixed regularisation with few labels and chooses it on a held-out tenth of the training images with all.

    Raises:
        InputError: for features or labels that no probe can use, or a class with fewer images than shots.
    """
    data = ProbeData(read.encoder, train_x, train_y, test_x, test_y)
    for count in shots:  # before anything is fitted
        drawn_per_class(data, count)
    options = {"draws": draws, "seed": seed, "neighbours": min(NEIGHBOURS, len(data.train_labels))}
    return [
        probe_row(read, data, protocol, labels_per_class, **options)
        for protocol in PROTOCOLS
        for labels_per_class in (*shots, None)
    ]


def probe_row(
    read: Read,
    data: ProbeData,
    protocol: str,
    labels: float | int | None,
    *,
    draws: int,
    seed: int,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> ProbeRow:
    """The row of so many labels a class, or of this share of them if below 1; None for all.

    The interval of all labels is over test images, that of few over draws. Raises what `probe_with_labels` raises.
    """
    started = time.monotonic()
    outcomes = probe_with_labels(
        data, protocol, labels, draws=draws, seed=seed, neighbours=neighbours, temperature=temperature
    )
    accuracies, images = np.array([accuracy for accuracy, _ in outcomes]), len(data.test_labels)
    mean = float(accuracies.mean())
    low, high = wilson_interval(round(mean * images), images) if labels is None else _interval_of_draws(accuracies)
    return ProbeRow(
        *read,
        protocol,
        accuracy=mean,
        low=low,
        high=high,
        images=images,
        seconds=time.monotonic() - started,
        labels_per_class=None if labels is None else round(float(drawn_per_class(data, labels).mean())),
        draws=len(outcomes),
        deviation=float(accuracies.std(ddof=1)) if len(outcomes) > 1 else None,
        details=_common_details(outcomes),
    )


def _interval_of_draws(accuracies: Float[np.ndarray, "n"]) -> tuple[float, float]:
    """95 % interval of the mean over draws, as far as shares go; NaN for a single draw."""
    low, high = np.clip(interval_of_mean(accuracies), 0, 1)
    return float(low), float(high)


def probe_with_labels(
    data: ProbeData,
    protocol: str,
    labels: float | int | None,
    *,
    draws: int,
    seed: int,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> list[Outcome]:
    """Accuracy and details of every draw of so many labels a class, or of this share of them if below 1; None for all.

    Raises InputError if a class has fewer images than labels, or there are fewer images than neighbours.
    """
    probe = functools.partial(PROTOCOLS[protocol], seed=seed, neighbours=neighbours, temperature=temperature)
    if labels is None:
        return [probe(data, None)]
    counts = drawn_per_class(data, labels)
    if draws < 1:
        raise InputError(f"draws must be at least 1, not {draws}")
    parts = (draw_per_class(data.train_labels, counts, seed=seed, draw=draw) for draw in range(draws))
    return [probe(data.take(part), int(counts.min())) for part in parts]


def drawn_per_class(data: ProbeData, labels: float | int) -> Int[np.ndarray, "c"]:
    """Images that are drawn of every class: so many, or this share of them but at least one, if below 1.

    Raises InputError if that is not positive, or if a class has fewer.
    """
    classes, counts = np.unique(data.train_labels, return_counts=True)
    if labels <= 0:
        raise InputError(f"{labels:g} labels a class are none; shots must be at least 1, or a share")
    if labels >= 1 and counts.min() < labels:
        raise InputError(
            f"features of '{data.encoder}': class {classes[counts.argmin()]} has {counts.min()} training images, "
            f"fewer than {labels:g} shots; choose fewer shots or give more images"
        )
    every = np.bincount(data.train_labels)
    return np.full(len(every), int(labels)) if labels >= 1 else np.maximum(1, np.rint(labels * every)).astype(int)


def _common_details(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Settings are the same in every draw; only "converged" can differ, and its minimum says whether all did."""
    return {name: min(details[name] for _, details in outcomes) for name in outcomes[0][1]}


def _knn(data: ProbeData, labels_per_class: int | None, *, seed: int, neighbours: int, temperature: float) -> Outcome:
    details = {"neighbours": min(neighbours, labels_per_class or neighbours), "temperature": temperature}
    if details["neighbours"] > len(data.train_labels):
        raise InputError(
            f"features of '{data.encoder}': {neighbours} neighbours exceed the {len(data.train_labels)} training "
            "images; lower them"
        )
    return knn_accuracy(*_arrays(data), **details), details


def _logistic(
    data: ProbeData, labels_per_class: int | None, *, seed: int, neighbours: int, temperature: float
) -> Outcome:
    fixed = None if labels_per_class is None else WITHOUT_CHOICE
    outcome = logistic_probe(*_arrays(data), inverse_regularisation=fixed, seed=seed)
    details = {"inverse_regularisation": outcome.inverse_regularisation, "converged": outcome.converged}
    return outcome.accuracy, details


PROTOCOLS: dict[str, Callable[..., Outcome]] = {"k-NN": _knn, "logistic": _logistic}


def _arrays(data: ProbeData) -> tuple[np.ndarray, ...]:
    return data.train_features, data.train_labels, data.test_features, data.test_labels
