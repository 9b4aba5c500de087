"""The classifier behind a pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.pretraining.heads import STATISTICS
from mim_jax.probing.head import ProbeHead
from mim_jax.probing.pooling.plain import Mean
from tests.probing.golden_heads import TOLERANCE, errors

FEATURES = jnp.asarray(np.random.default_rng(0).standard_normal((6, 64)) * 3 + 1, jnp.float32)


def _start(head: ProbeHead) -> dict:
    return jax.jit(head.init)(jax.random.key(0), FEATURES)


def test_linear_probe_matches_the_original():
    assert max(errors("gap", Mean()).values()) < TOLERANCE


def test_inference_normalises_by_the_running_statistics_only():
    head = ProbeHead(classes=3)
    variables = _start(head)
    run = jax.jit(head.apply)
    together = run(variables, FEATURES)
    np.testing.assert_allclose(run(variables, FEATURES[:1]), together[:1], rtol=1e-5)
    classifier = variables["params"]["linear"]
    expected = FEATURES / np.sqrt(1 + 1e-6) @ classifier["kernel"] + classifier["bias"]
    np.testing.assert_allclose(together, expected, rtol=1e-4, atol=1e-5)


def test_training_normalises_by_the_batch_and_remembers_it():
    head = ProbeHead(classes=64, use_bias=False)
    variables = _start(head)
    variables["params"]["linear"]["kernel"] = jnp.eye(64)
    logits, changed = jax.jit(lambda v, x: head.apply(v, x, True, mutable=[STATISTICS]))(variables, FEATURES)
    np.testing.assert_allclose(logits.std(axis=0), 1, rtol=1e-4)
    after = changed[STATISTICS]["batch_norm"]
    np.testing.assert_allclose(after["mean"], 0.1 * FEATURES.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after["variance"], 0.9 + 0.1 * FEATURES.var(axis=0, ddof=1), rtol=1e-5)


def test_norms_are_switches():
    plain = _start(ProbeHead(classes=3, batch_norm=False))
    assert STATISTICS not in plain and set(plain["params"]) == {"linear"}
    normed = ProbeHead(classes=64, layer_norm=True, batch_norm=False)
    variables = _start(normed)
    variables["params"]["linear"] = {"kernel": jnp.eye(64), "bias": jnp.zeros(64)}
    np.testing.assert_allclose(jax.jit(normed.apply)(variables, FEATURES).std(axis=1), 1, rtol=1e-4)


def test_classifiers_start_as_asked_for():
    kernels = {start: _start(ProbeHead(classes=50, start=start))["params"]["linear"] for start in ("normal", "zeros")}
    assert abs(kernels["normal"]["kernel"].std() / 0.01 - 1) < 0.1 and not kernels["normal"]["bias"].any()
    assert not kernels["zeros"]["kernel"].any() and not kernels["zeros"]["bias"].any()
    default = _start(ProbeHead(classes=50))["params"]["linear"]
    assert 0.12 < jnp.abs(default["kernel"]).max() <= 64**-0.5 and default["bias"].any()


def test_unknown_starts_are_refused():
    with pytest.raises(InputError, match="starts as torch_default, normal, zeros"):
        ProbeHead(classes=3, start="ones")
