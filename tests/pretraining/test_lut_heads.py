"""Projector and predictor: depths, norms, activations, running statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.pretraining.heads import HeadConfig, ProjectionHead, initial_head, train_head


def head(*fields):
    module = ProjectionHead(HeadConfig(*fields))
    parameters = initial_head(module, 4, jax.random.key(0))
    return module, parameters, module.config.initial_statistics()


def test_head_of_depth_0_is_the_identity():
    module, parameters, statistics = head(0)
    x = jnp.arange(8.0).reshape(2, 4)
    output, after = train_head(module, parameters, statistics, x)
    assert parameters == statistics == after == {}
    assert jnp.array_equal(output, x)


def test_head_of_depth_1_is_one_map_without_norm():
    module, parameters, statistics = head(1)
    x = jax.random.normal(jax.random.key(1), (3, 4))
    output, after = train_head(module, parameters, statistics, x)
    assert list(parameters) == ["layer0"] and after == {}
    np.testing.assert_allclose(output, x @ parameters["layer0"]["kernel"], rtol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_head_of_depth_2_is_map_norm_activation_map(norm, activation):
    module, parameters, statistics = head(2, 6, norm, activation)
    x = jax.random.normal(jax.random.key(1), (5, 4))
    output, after = train_head(module, parameters, statistics, x)
    hidden = np.asarray(x @ parameters["layer0"]["kernel"], np.float64)
    if norm != "none":
        axis, epsilon = {"batch": (0, 1e-5), "layer": (1, 1e-6)}[norm]
        normed = (hidden - hidden.mean(axis, keepdims=True)) / np.sqrt(hidden.var(axis, keepdims=True) + epsilon)
    else:
        normed = hidden
    active = np.maximum(normed, 0) if activation == "relu" else jax.nn.gelu(jnp.asarray(normed), approximate=False)
    np.testing.assert_allclose(output, active @ np.asarray(parameters["layer1"]["kernel"]), rtol=1e-4, atol=1e-5)
    expected = {"norm0": {"mean": 0.1 * hidden.mean(0), "variance": 0.9 + 0.1 * hidden.var(0, ddof=1)}}
    if norm == "batch":
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6), after, expected
        )
    else:
        assert after == {}


def test_evaluation_normalises_by_the_running_statistics():
    module, parameters, _ = head(2, 6)
    statistics = {"norm0": {"mean": jnp.full(6, 2.0), "variance": jnp.full(6, 9.0)}}
    x = jax.random.normal(jax.random.key(1), (1, 4))
    output = module.apply({"params": parameters, "statistics": statistics}, x)
    hidden = np.maximum((x @ parameters["layer0"]["kernel"] - 2) / np.sqrt(9 + 1e-5), 0)
    np.testing.assert_allclose(output, hidden @ parameters["layer1"]["kernel"], rtol=1e-4, atol=1e-6)


def test_batch_norm_refuses_a_single_image():
    with pytest.raises(ValueError, match="batch norm needs two images"):
        train_head(*head(2, 6), jnp.zeros((1, 4)))


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"norm": "group"}, "norm of a head must be one of batch, layer, none, not 'group'"),
        ({"activation": "tanh"}, "activation of a head must be one of relu, gelu, not 'tanh'"),
        ({"depth": -1}, "depth of 0 or more"),
    ],
)
def test_heads_that_do_not_exist_are_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        HeadConfig(**fields)
