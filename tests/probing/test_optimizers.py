"""Optimizers of probes against the original, and many at once against one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.probing.optimizers import OPTIMIZERS, _matrices, initial_states, update_stacked
from mim_jax.probing.pooling import FrozenTokens, make_pooling
from tests import golden_cases as golden


def stacked(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], tree)


def test_lars_follows_the_original():
    case, arrays = golden.case("lars"), golden.arrays("lars")
    parameters = stacked({"kernel": arrays["weight"][0], "bias": arrays["bias"][0]})
    states = initial_states("lars", parameters)
    step = jax.jit(
        lambda g, s, p: update_stacked("lars", g, s, p, jnp.array([case["lr"]]), jnp.array([case["weight_decay"]]))
    )
    for k in range(len(arrays["grad_weight"])):
        gradients = stacked({"kernel": arrays["grad_weight"][k], "bias": arrays["grad_bias"][k]})
        parameters, states = step(gradients, states, parameters)
        assert golden.relative_error(parameters["kernel"][0], arrays["weight"][k + 1]) <= 1e-5
        assert golden.relative_error(parameters["bias"][0], arrays["bias"][k + 1]) <= 1e-5


def test_lars_gives_the_published_trajectory():
    parameters = stacked({"kernel": np.random.RandomState(1).standard_normal((3, 4)), "bias": np.zeros(3)})
    draws, states = np.random.RandomState(2), initial_states("lars", parameters)
    kernels, biases = [], []
    for _ in range(3):
        gradients = stacked({"kernel": draws.standard_normal((3, 4)), "bias": draws.standard_normal(3)})
        parameters, states = update_stacked("lars", gradients, states, parameters, jnp.array([6.4]), jnp.array([0.01]))
        kernels.append(np.asarray(parameters["kernel"][0]).ravel()[:4])
        biases.append(np.asarray(parameters["bias"][0]))
    np.testing.assert_allclose(kernels[2], [1.647937, -0.6268408, -0.5022591, -1.082771], rtol=1e-5)
    np.testing.assert_allclose(
        biases,
        [[-0.2658521, 7.154723, -3.449973], [7.0956, 22.68976, -5.57258], [25.67669, 25.59172, -16.87607]],
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_many_probes_at_once_are_updated_as_one_by_one(name):
    rng = np.random.default_rng(0)
    draw = lambda: {
        "kernel": rng.normal(size=(3, 4, 2)).astype(np.float32),
        "bias": rng.normal(size=(3, 2)).astype(np.float32),
    }
    together, rates, decays = draw(), jnp.array([0.1, 1.0, 5.0]), jnp.array([0.0, 0.1, 0.01])
    alone = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], together) for i in range(3)]
    states, own = initial_states(name, together), [initial_states(name, tree) for tree in alone]
    for _ in range(3):
        gradients = draw()
        together, states = update_stacked(name, gradients, states, together, rates, decays)
        for i in range(3):
            gradient = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], gradients)
            alone[i], own[i] = update_stacked(name, gradient, own[i], alone[i], rates[i : i + 1], decays[i : i + 1])
    for i in range(3):
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b[0], rtol=1e-6), together, alone[i])


def test_vectors_of_torch_get_neither_decay_nor_trust_ratio_in_any_pooling():
    frozen = FrozenTokens(jnp.zeros((1, 17, 48)), (4, 4), 1)
    vectors, matrices = set(), set()
    for name in ("gem", "cait", "coca", "aim", "abmilp(depth=2)", "clip", "siglip", "vjepa", "ep(queries=2)", "cae"):
        tree = jax.eval_shape(make_pooling(name).init, jax.random.key(0), frozen)["params"]
        for path, matrix in jax.tree_util.tree_leaves_with_path(_matrices(tree)):
            (matrices if matrix else vectors).add(path[-1].key)
    assert vectors == {"bias", "scale", "gamma_1", "gamma_2", "norm", "power"}
    assert matrices == {"kernel", "query", "pos_embed"}
