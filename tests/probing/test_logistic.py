"""Logistic regression on frozen features."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mim_jax.probing import logistic
from mim_jax.probing.logistic import REGULARISATION_PATH, logistic_probe
from tests.probing.clusters import clusters


def test_separated_clusters_are_all_recognised():
    assert logistic_probe(*clusters(spread=0.01)).accuracy == 1.0


def test_accuracy_is_that_of_logistic_regression_on_standardised_features(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logistic, "VARIANCE_PRIOR", 0)
    train, train_labels, test, test_labels = clusters(spread=2.0)
    mean, deviation = train.mean(0), train.std(0)
    model = LogisticRegression(C=0.1, tol=1e-6).fit((train - mean) / deviation, train_labels)
    ours = logistic_probe(train, train_labels, test, test_labels, inverse_regularisation=0.1)
    assert ours.accuracy == model.score((test - mean) / deviation, test_labels)


def test_shift_and_common_scale_of_features_do_not_matter():
    train, train_labels, test, test_labels = clusters(spread=1.5)
    moved = logistic_probe(100 * train + 7, train_labels, 100 * test + 7, test_labels)
    assert moved == logistic_probe(train, train_labels, test, test_labels)


def test_choice_of_regularisation_never_sees_the_test_set():
    train, train_labels, test, test_labels = clusters(spread=1.5)
    chosen = logistic_probe(train, train_labels, test, test_labels).inverse_regularisation
    assert chosen in REGULARISATION_PATH
    other = logistic_probe(train, train_labels, test[::-1] * 0, test_labels)
    assert other.inverse_regularisation == chosen


def test_noise_is_regularised_more_than_signal():
    generator = np.random.default_rng(0)
    features, labels = generator.standard_normal((200, 100)).astype(np.float32), np.arange(200) % 2
    features[:, 0] += 2 * labels
    noisy = logistic_probe(features, labels, features, labels).inverse_regularisation
    assert noisy < max(REGULARISATION_PATH)


def test_feature_that_is_constant_in_training_does_not_decide():
    train, train_labels, test, test_labels = clusters(spread=0.01)
    train[:, 0], test[:, 0] = 0, 5.0
    assert logistic_probe(train, train_labels, test, test_labels, inverse_regularisation=1.0).accuracy == 1.0


def test_fit_that_stops_early_is_reported_and_does_not_warn(monkeypatch: pytest.MonkeyPatch):
    data = clusters(spread=1.5)
    assert logistic_probe(*data).converged
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 2)
    assert not logistic_probe(*data, inverse_regularisation=10.0).converged


def test_class_with_one_image_stays_in_training_while_the_others_choose():
    train, train_labels, test, test_labels = clusters()
    train_labels = train_labels.copy()
    train_labels[train_labels == 3] = 2
    train_labels[5] = 3
    probe = logistic_probe(train, train_labels, test, test_labels)
    assert probe.inverse_regularisation in REGULARISATION_PATH
    fixed = logistic_probe(train, train_labels, test, test_labels, inverse_regularisation=probe.inverse_regularisation)
    assert probe.accuracy == fixed.accuracy


def test_nothing_is_chosen_where_every_class_has_one_image():
    train, train_labels, test, test_labels = clusters()
    first = np.unique(train_labels, return_index=True)[1]
    probe = logistic_probe(train[first], train_labels[first], test, test_labels)
    assert probe.inverse_regularisation == 1.0
