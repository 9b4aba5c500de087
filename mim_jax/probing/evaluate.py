"""All probes of one encoder: nearest neighbours and a linear classifier, with few labels and with all."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mim_jax.errors import InputError
from mim_jax.probing.draws import draw_per_class
from mim_jax.probing.features import ProbeData
from mim_jax.probing.knn import knn_accuracy
from mim_jax.probing.linear import linear_probe
from mim_jax.probing.results import ProbeResult

NEIGHBOURS = 20
TEMPERATURE = 0.07
FEW_SHOT_INVERSE_REGULARISATION = 1.0
"""Too few labels to hold any out; on standardised features the accuracy hardly depends on it."""

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
    _check_shots(data, shots, draws)
    return [
        _probe(data, protocol, labels_per_class, draws, seed)
        for protocol in PROTOCOLS
        for labels_per_class in (*shots, None)
    ]


def _probe(data: ProbeData, protocol: str, labels_per_class: int | None, draws: int, seed: int) -> ProbeResult:
    probe = PROTOCOLS[protocol]
    if labels_per_class is None:
        accuracy, details = probe(data, None, seed)
        return ProbeResult(data.encoder, protocol, None, accuracy, None, 1, details)
    parts = [draw_per_class(data.train_labels, labels_per_class, seed=seed, draw=draw) for draw in range(draws)]
    outcomes = [probe(data.take(part), labels_per_class, seed) for part in parts]
    accuracies = [accuracy for accuracy, _ in outcomes]
    deviation = float(np.std(accuracies, ddof=1)) if draws > 1 else None
    mean = float(np.mean(accuracies))
    return ProbeResult(data.encoder, protocol, labels_per_class, mean, deviation, draws, _common_details(outcomes))


def _common_details(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Settings are the same in every draw; only "converged" can differ, and its minimum says whether all did."""
    return {name: min(details[name] for _, details in outcomes) for name in outcomes[0][1]}


def _knn(data: ProbeData, labels_per_class: int | None, seed: int) -> Outcome:
    neighbours = min(NEIGHBOURS, labels_per_class or len(data.train_labels))
    details = {"neighbours": neighbours, "temperature": TEMPERATURE}
    return knn_accuracy(*_arrays(data), **details), details


def _linear(data: ProbeData, labels_per_class: int | None, seed: int) -> Outcome:
    fixed = None if labels_per_class is None else FEW_SHOT_INVERSE_REGULARISATION
    outcome = linear_probe(*_arrays(data), inverse_regularisation=fixed, seed=seed)
    details = {"inverse_regularisation": outcome.inverse_regularisation, "converged": outcome.converged}
    return outcome.accuracy, details


PROTOCOLS: dict[str, Callable[[ProbeData, int | None, int], Outcome]] = {"k-NN": _knn, "linear": _linear}


def _arrays(data: ProbeData) -> tuple[np.ndarray, ...]:
    return data.train_features, data.train_labels, data.test_features, data.test_labels


def _check_shots(data: ProbeData, shots: Sequence[int], draws: int) -> None:
    if draws < 1 or any(count < 1 for count in shots):
        raise InputError(f"shots {tuple(shots)} and draws {draws} must be at least 1")
    classes, counts = np.unique(data.train_labels, return_counts=True)
    if shots and counts.min() < max(shots):
        raise InputError(
            f"features of '{data.encoder}': class {classes[counts.argmin()]} has {counts.min()} training images, "
            f"fewer than {max(shots)} shots; choose fewer shots or give more images"
        )
