"""AbMILP: every setting of the original, the numbers of the specification, parameter counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.ops.positions import sincos_position_table
from mim_jax.probing.pooling.abmilp import AbMilp
from mim_jax.probing.pooling.frozen import FrozenTokens
from mim_jax.probing.pooling.queries import EfficientProbing
from tests import golden_cases
from tests.golden_cases import FOLDER, relative_error
from tests.probing.frozen_encoders import of_appendix
from tests.probing.golden_heads import apply, drawn, example, initial, our_tree, parameter_count, with_prefix

NAMES = (
    (r"^params\.", ""),
    (r"layer(\d)", lambda match: f"attention_predictor.{2 * int(match[1])}"),
)
CASES = sorted(path.name for path in (FOLDER / "abmilp").iterdir())

COUNTS = [
    (AbMilp(), 769),
    (AbMilp(depth=2), 591_361),
    (AbMilp(self_attention="both"), 2_360_833),
    (AbMilp(depth=2, self_attention="both"), 2_951_425),
    (AbMilp(condition="pe"), 769),
    (AbMilp(condition="pe", trainable_positions=True), 769 + 150_528),
]


@pytest.mark.parametrize("case", CASES)
def test_feature_and_weights_match_the_original(case: str):
    arrays, settings = golden_cases.arrays(f"abmilp/{case}"), golden_cases.case(f"abmilp/{case}")
    options = {name: settings[name] for name in ("activation", "self_attention", "depth", "condition", "content")}
    pooling, tokens = AbMilp(**options), FrozenTokens(tokens=jnp.asarray(arrays["tokens"]), grid=(8, 8), prefix=1)
    shapes = jax.eval_shape(pooling.init, jax.random.key(0), tokens)
    variables = our_tree(shapes, with_prefix(arrays, "param/"), NAMES)
    pooled, weights = apply(pooling, variables, tokens, "attend")
    assert relative_error(pooled, arrays["pooled"]) < 1e-5
    assert relative_error(weights[:, 0], arrays["attention"][..., 0]) < 1e-5


SPECIFIED = [
    (
        AbMilp(),
        [0.5556447, -1.220808, 0.7025833, -0.3962887, 17.620626, 66.23301],
        [0.00354701, 0.005736416, 0.01464793],
    ),
    (
        AbMilp(activation="tanh", depth=2, content="all"),
        [-1.162731, -0.07079162, 0.4821658, 0.1068908, 10.662435, 59.261433],
        [0.05867956, 0.09623706, 0.03276876],
    ),
    (
        AbMilp(depth=2, condition="pe"),
        [-1.287392, 0.03579875, 0.3710943, 0.1778497, 9.3943047, 59.763713],
        [0.1013828, 0.02393531, 0.1043897],
    ),
    (
        AbMilp(activation="tanh", depth=2, self_attention="map"),
        [-0.699569, -0.4370364, 0.567673, -0.141683, 11.000592, 57.893922],
        None,
    ),
    (
        AbMilp(activation="tanh", depth=2, self_attention="both", content="all"),
        [-1.967367, -0.2175164, 2.259322, -2.416526, -20.494348, 110.00307],
        None,
    ),
    (
        AbMilp(activation="tanh", depth=3, self_attention="both", condition="pe", content="all"),
        [0.9548582, -2.594611, 0.1418667, -0.6847537, 26.855847, 93.221823],
        None,
    ),
]
"""Heads; the first four features of one image, the sum over both images and that of sizes; the first weights."""


@pytest.mark.parametrize("pooling, features, first_weights", SPECIFIED)
def test_numbers_of_the_specification(pooling: AbMilp, features: list[float], first_weights: list[float] | None):
    tokens = of_appendix()[-1]
    shapes = jax.eval_shape(pooling.init, jax.random.key(0), tokens)
    pooled, weights = apply(pooling, our_tree(shapes, _drawn(pooling), NAMES), tokens, "attend")
    np.testing.assert_allclose([*pooled[0, :4], pooled.sum(), jnp.abs(pooled).sum()], features, rtol=1e-5, atol=2e-5)
    if first_weights is not None:
        np.testing.assert_allclose(weights[0, 0, :3], first_weights, rtol=1e-5)


def _drawn(pooling: AbMilp) -> dict[str, np.ndarray]:
    """The parameters that the specification's numbers were computed with, from numpy's old generator."""
    last, attends = pooling.depth - 1, pooling.self_attention != "none"
    shapes = {
        **{f"attention_predictor.{2 * i}.weight": (1 if i == last else 32, 32) for i in range(pooling.depth)},
        **{f"attention_predictor.{2 * i}.bias": (1 if i == last else 32,) for i in range(pooling.depth)},
        **({"self_attn.qkv.weight": (96, 32), "self_attn.proj.weight": (32, 32)} if attends else {}),
        **({"self_attn.proj.bias": (32,)} if attends else {}),
    }
    random = np.random.RandomState(99)
    size = {name: 0.4 if "qkv" in name else 0.1 for name in shapes}
    return {name: size[name] * random.standard_normal(shape) for name, shape in sorted(shapes.items())}


@pytest.mark.parametrize("pooling, count", COUNTS)
def test_parameters_are_as_many_as_in_the_original(pooling: AbMilp, count: int):
    assert parameter_count(pooling) == count


def test_depth_one_is_efficient_probing_with_one_query():
    tokens, width = example(), 24
    pooling = AbMilp()
    parameters = drawn(pooling, tokens)["params"]
    probing = {
        "query": parameters["layer0"]["kernel"].T * width**0.5,
        "v": {"kernel": jnp.eye(width)[:, None]},
    }
    pooled = apply(EfficientProbing(queries=1), {"params": probing}, tokens)
    assert relative_error(apply(pooling, {"params": parameters}, tokens), pooled) < 1e-5


def test_positions_are_fixed_unless_asked_for():
    tokens, trained = example(prefix=1), AbMilp(condition="pe", content="all", trainable_positions=True)
    assert "pos_embed" not in initial(AbMilp(condition="pe"), tokens)["params"]
    variables = initial(trained, tokens)
    np.testing.assert_allclose(variables["params"]["pos_embed"], sincos_position_table((4, 4), 24), atol=1e-6)
    fixed = {"params": {"layer0": variables["params"]["layer0"]}}
    untrained = trained.clone(trainable_positions=False)
    np.testing.assert_array_equal(apply(trained, variables, tokens), apply(untrained, fixed, tokens))


def test_grids_need_not_be_square_and_batches_may_be_one_image_in_half_precision():
    pooling = AbMilp(depth=2, self_attention="both", condition="pe")
    tokens = FrozenTokens(tokens=jnp.ones((1, 7, 24), jnp.bfloat16), grid=(2, 3), prefix=1)
    pooled, variables = jax.eval_shape(pooling.init_with_output, jax.random.key(0), tokens)
    assert pooled.shape == (1, 24) and pooled.dtype == jnp.float32
    weights = jax.eval_shape(lambda *given: pooling.apply(*given, method="weights"), variables, tokens)
    assert weights.shape == (1, 1, 6)


def test_the_last_bias_has_no_gradient():
    pooling, tokens = AbMilp(depth=2), example()
    gradient = jax.jit(jax.grad(lambda variables: pooling.apply(variables, tokens)[:, 0].sum()))
    gradients = gradient(drawn(pooling, tokens))
    assert not gradients["params"]["layer1"]["bias"].any()
    assert gradients["params"]["layer0"]["bias"].any()


def test_wrong_options_are_refused():
    with pytest.raises(InputError, match="depth must be 1 or more"):
        AbMilp(depth=0)
