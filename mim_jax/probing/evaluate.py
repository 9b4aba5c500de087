"""All probes of one encoder: nearest neighbours and a linear classifier, with few labels and with all."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mim_jax.errors import InputError
from mim_jax.probing.draws import draw_per_class
from mim_jax.probing.features import ProbeData
from mim_jax.probing.knn import knn_accuracy
from mim_jax.probing.linear import WITHOUT_CHOICE, linear_probe
from mim_jax.probing.results import ProbeResult

NEIGHBOURS = 20
TEMPERATURE = 0.07

Outcome = tuple[float, dict[str, Any]]


def probe_features(
    name: str,
    train_x: Float[np.ndarray, "_ _"],
    train_y: Int[np.ndarray, "_"],
    test_x: Float[np.ndarray, "_ _"],
    test_y: Int[np.ndarray, "_"],
    *,
    seed: int,
    shots: Sequence[int] = (1, 5, 10),
    draws: int = 5,
) -> list[ProbeResult]:
    """Probes the features of the encoder `name` with `shots` labels a class (mean of `draws`) and with all.

    `train_x` is `[n d]` with labels `train_y` `[n]`, `test_x` is `[m d]` with labels `test_y` `[m]`.
    The draws depend on labels and seed only: every encoder is probed with the same images. k-NN takes
    `min(20, labels a class)` neighbours, so one label a class means the nearest neighbour; the linear probe has a
    fixed regularisation with few labels and chooses it on a held-out tenth of the training images with all.

    Raises:
        InputError: for features or labels that no probe can use, or a class with fewer images than shots.
    """
    data = ProbeData(name, train_x, train_y, test_x, test_y)
    for count in shots:  # before anything is fitted
        drawn_per_class(data, count)
    return [
        _result(data, protocol, labels_per_class, draws, seed)
        for protocol in PROTOCOLS
        for labels_per_class in (*shots, None)
    ]


def _result(data: ProbeData, protocol: str, labels_per_class: int | None, draws: int, seed: int) -> ProbeResult:
    neighbours = min(NEIGHBOURS, len(data.train_labels))
    outcomes = probe_with_labels(data, protocol, labels_per_class, draws=draws, seed=seed, neighbours=neighbours)
    accuracies = [accuracy for accuracy, _ in outcomes]
    deviation = float(np.std(accuracies, ddof=1)) if len(outcomes) > 1 else None
    mean, details = float(np.mean(accuracies)), _common_details(outcomes)
    return ProbeResult(data.encoder, protocol, labels_per_class, mean, deviation, len(outcomes), details)


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


def _linear(
    data: ProbeData, labels_per_class: int | None, *, seed: int, neighbours: int, temperature: float
) -> Outcome:
    fixed = None if labels_per_class is None else WITHOUT_CHOICE
    outcome = linear_probe(*_arrays(data), inverse_regularisation=fixed, seed=seed)
    details = {"inverse_regularisation": outcome.inverse_regularisation, "converged": outcome.converged}
    return outcome.accuracy, details


PROTOCOLS: dict[str, Callable[..., Outcome]] = {"k-NN": _knn, "linear": _linear}


def _arrays(data: ProbeData) -> tuple[np.ndarray, ...]:
    return data.train_features, data.train_labels, data.test_features, data.test_labels
