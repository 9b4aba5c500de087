"""Multinomial logistic regression on frozen features, fitted to the end."""

import dataclasses
import warnings

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from mim_jax.probing.draws import hold_out

REGULARISATION_PATH = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse L2 strengths (C of scikit-learn: the loss is C * sum over images + |w|^2 / 2), strongest first."""
HELD_OUT_FRACTION = 0.1
WITHOUT_CHOICE = 1.0
"""C where there are too few labels to hold any out; on standardised features the accuracy hardly depends on it."""
VARIANCE_PRIOR = 10
"""Images that the average variance of all features counts for in the variance of one."""
MAX_ITERATIONS = 1000
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class LogisticProbe:
    """Outcome of a logistic regression.

    Attributes:
        accuracy: top-1 accuracy on the test set, in [0, 1].
        inverse_regularisation: C of the classifier that was tested.
        converged: whether its fit reached the tolerance within `MAX_ITERATIONS` steps.
    """

    accuracy: float
    inverse_regularisation: float
    converged: bool


def logistic_probe(
    train_features: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, "n"],
    test_features: Float[np.ndarray, "m d"],
    test_labels: Int[np.ndarray, "m"],
    *,
    inverse_regularisation: float | None = None,
    seed: int = 0,
) -> LogisticProbe:
    """Fits on standardised training features by L-BFGS, in float32, and tests once.

    Unless `inverse_regularisation` is given, it is the value of `REGULARISATION_PATH` with the best accuracy on a
    tenth of the training images, held out by `seed` of every class that has two or more (the strongest of equals); then
    all training images are fitted. Where every class has one image it is 1. The test set takes part in no choice.
    """
    strength = inverse_regularisation or _choose(train_features, train_labels, seed)
    train, test = _standardise(train_features, test_features)
    model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS, tol=TOLERANCE)
    converged = _fit(model, train, train_labels)
    return LogisticProbe(float(model.score(test, test_labels)), strength, converged)


def _choose(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"], seed: int) -> float:
    held_out = hold_out(labels, HELD_OUT_FRACTION, seed=seed)
    if not held_out.any():
        return WITHOUT_CHOICE
    return REGULARISATION_PATH[int(np.argmax(_held_out_scores(features, labels, held_out)))]


def _held_out_scores(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"], held_out: Bool[np.ndarray, "n"]
) -> list[float]:
    """Accuracy on the held-out part for every value of the path, each fit starting from the one before."""
    train, rest = _standardise(features[~held_out], features[held_out])
    model = LogisticRegression(max_iter=MAX_ITERATIONS, tol=TOLERANCE, warm_start=True)
    scores = []
    for strength in REGULARISATION_PATH:
        _fit(model.set_params(C=strength), train, labels[~held_out])
        scores.append(float(model.score(rest, labels[held_out])))
    return scores


def _fit(model: LogisticRegression, features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"]) -> bool:
    """Fits in place; says whether it converged, instead of warning: a probe that did not is still a measurement."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels)
    return bool(model.n_iter_.max() < model.max_iter)


def _standardise(
    train: Float[np.ndarray, "n d"], test: Float[np.ndarray, "m d"]
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]:
    """Both parts in float32 with the training part's mean and variance.

    Variances are shrunk towards their average, as if `VARIANCE_PRIOR` images had it: ten images say too little
    about the variance of each feature, and a feature that is constant in them would blow up in the test set.
    """
    mean, variance = train.mean(axis=0, dtype=np.float64), train.var(axis=0, dtype=np.float64)
    shrunk = (len(train) * variance + VARIANCE_PRIOR * variance.mean()) / (len(train) + VARIANCE_PRIOR)
    mean, deviation = mean.astype(np.float32), np.sqrt(np.where(shrunk > 0, shrunk, 1)).astype(np.float32)
    return (train - mean) / deviation, (test - mean) / deviation
