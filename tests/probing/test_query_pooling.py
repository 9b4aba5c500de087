"""Poolings by learned queries: parity with the originals, parameter counts, and the order of contraction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.ops.attention import attention
from mim_jax.probing.pooling.absorption import attend, head_shape
from mim_jax.probing.pooling.queries import Aim, Capi, EfficientProbing
from tests.golden_cases import relative_error
from tests.probing.golden_heads import TOLERANCE, apply, class_token_error, drawn, errors, example, parameter_count

NAMES = ((r"\bquery$", "cls_token"), (r"pooling\.norm", "pooling.bn"), (r"^norm", "bn"))

CASES = {
    "aim": Aim(),
    "ep_q1_dout1": EfficientProbing(queries=1),
    "ep_q3_dout2": EfficientProbing(queries=3, d_out=2),
    "ep_q4_dout1": EfficientProbing(queries=4),
    "ep_q12_dout2": EfficientProbing(queries=12, d_out=2),
}
COUNTS = [
    (EfficientProbing(queries=8), 595_968),
    (EfficientProbing(queries=32), 614_400),
    (EfficientProbing(queries=64), 638_976),
    (EfficientProbing(queries=32, d_out=2), 319_488),
    (EfficientProbing(queries=32, d_out=4), 172_032),
    (Aim(), 1_180_416),
    (Capi(), 1_181_952),
]


@pytest.mark.parametrize("case", CASES)
def test_pooling_and_classifier_match_the_original(case: str):
    assert max(errors(case, CASES[case], NAMES).values()) < TOLERANCE


@pytest.mark.parametrize("name", ["ep", "aim"])
def test_class_token_as_the_query_matches_the_original(name: str):
    pooling = {"ep": EfficientProbing(queries=1, query="class_token"), "aim": Aim(heads=4, query="class_token")}[name]
    assert class_token_error(name, pooling, NAMES) < TOLERANCE


@pytest.mark.parametrize("pooling, count", COUNTS)
def test_parameters_are_as_many_as_in_the_original(pooling, count: int):
    assert parameter_count(pooling) == count


def test_efficient_probing_gives_the_numbers_of_the_specification():
    random = np.random.RandomState(5)
    queries, values = 0.5 * random.standard_normal((4, 32)), 0.1 * random.standard_normal((32, 32))
    tokens = example().replace(tokens=_specified_tokens(), grid=(4, 4), prefix=0)
    parameters = {"query": jnp.asarray(queries), "v": {"kernel": jnp.asarray(values.T).reshape(32, 4, 8)}}
    pooled = apply(EfficientProbing(queries=4), {"params": parameters}, tokens)
    np.testing.assert_allclose(pooled[0, :4], [-0.2004181, -0.2269544, -0.1870273, 0.0867907], atol=1e-6)
    np.testing.assert_allclose(pooled[0, 8:10], [0.0503, 0.1976047], atol=3e-6)
    np.testing.assert_allclose([pooled.sum(), jnp.abs(pooled).sum()], [-0.4407340, 8.4391056], atol=1e-5)


def test_aim_in_training_gives_the_numbers_of_the_specification():
    random = np.random.RandomState(5)
    query = 0.5 * random.standard_normal((1, 32))
    key, value = (0.1 * random.standard_normal((32, 32)) for _ in range(2))
    maps = {name: {"kernel": jnp.asarray(kernel.T).reshape(32, 4, 8)} for name, kernel in (("k", key), ("v", value))}
    tokens, pooling = example().replace(tokens=_specified_tokens(), grid=(4, 4), prefix=0), Aim(heads=4)
    start = drawn(pooling, tokens)["statistics"]
    variables = {"params": {"query": jnp.asarray(query), **maps}, "statistics": start}
    pooled, changed = jax.jit(lambda *given: pooling.apply(*given, True, mutable=["statistics"]))(variables, tokens)
    np.testing.assert_allclose(pooled[0, :4], [-0.0652208, -0.1211901, 0.0899328, -0.1520108], atol=1e-6)
    np.testing.assert_allclose(jnp.abs(pooled).sum(), 4.9865061, rtol=1e-6)
    after = changed["statistics"]["norm"]
    unbiased = tokens.tokens[..., 0].var(ddof=1)
    np.testing.assert_allclose([after["mean"][0], after["variance"][0]], [0.0135265, 0.9 + 0.1 * unbiased], atol=1e-6)


def _specified_tokens() -> jax.Array:
    return jnp.asarray(np.random.RandomState(6).standard_normal((2, 16, 32)), jnp.float32)


def test_pooling_first_and_projecting_after_is_attention():
    random, shapes = np.random.default_rng(3), [(2, 4, 6), (24, 4, 6), (24, 4, 6), (4, 6), (3, 16, 24), (4, 6)]
    arrays = (jnp.asarray(random.standard_normal(shape), jnp.float32) for shape in shapes)
    query, key, value, bias, tokens, key_bias = arrays
    outputs, weights = jax.jit(attend)(query, key, value, bias, tokens)

    @jax.jit
    def plain() -> jax.Array:
        in_heads = [jnp.einsum("bnd,dke->bkne", tokens, kernel) for kernel in (key, value)]
        keys, values = in_heads[0] + key_bias[:, None], in_heads[1] + bias[:, None]
        return attention(jnp.broadcast_to(query.swapaxes(0, 1), (3, 4, 2, 6)), keys, values, scale=6**-0.5)

    assert relative_error(outputs, plain().swapaxes(1, 2)) < 1e-5
    assert weights.shape == (3, 8, 16)


def test_capi_is_attention_of_its_query():
    tokens, pooling = example(), Capi(head_width=6)
    parameters = drawn(pooling, tokens)["params"]
    kernel, bias = (parameters["kv"][name] for name in ("kernel", "bias"))

    @jax.jit
    def plain() -> jax.Array:
        keys, values = jnp.einsum("bnd,dtke->tbkne", tokens.patches, kernel) + bias[:, None, :, None]
        query = jnp.broadcast_to(parameters["query"].reshape(4, 1, 6), (3, 4, 1, 6))
        return attention(query, keys, values, scale=6**-0.5).reshape(3, 24)

    assert relative_error(apply(pooling, {"params": parameters}, tokens), plain()) < 1e-5


@pytest.mark.parametrize("pooling, heads", [(EfficientProbing(queries=4), 4), (Aim(), 12), (Capi(head_width=8), 3)])
def test_weights_of_the_patches_sum_to_one(pooling, heads: int):
    tokens = example(batch=1)
    weights = apply(pooling, drawn(pooling, tokens), tokens, "weights")
    assert weights.shape == (1, heads, 16)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)


def test_all_content_pools_the_prefix_tokens_too():
    tokens = example(prefix=2)
    patches_only, pooling = tokens.replace(tokens=tokens.tokens.at[:, :2].set(0)), EfficientProbing(queries=4)
    variables = drawn(pooling, tokens)
    np.testing.assert_array_equal(apply(pooling, variables, tokens), apply(pooling, variables, patches_only))
    everything = pooling.clone(content="all")
    assert relative_error(apply(everything, variables, tokens), apply(everything, variables, patches_only)) > 1e-3
    shown = apply(everything, variables, tokens, "weights")
    assert shown.shape == (3, 4, 16) and (shown.sum(axis=-1) < 1).all()


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="choose heads that divide it"):
        head_shape(24, 5)
    with pytest.raises(InputError, match="choose queries that divide it"):
        parameter_count(EfficientProbing(queries=5), width=24, side=2)
    with pytest.raises(InputError, match="set queries=1"):
        parameter_count(EfficientProbing(query="class_token"), width=64, side=2)
    with pytest.raises(InputError, match="set head_width"):
        parameter_count(Capi(), width=24, side=2)
    with pytest.raises(InputError, match="heads must be 1 or more"):
        Aim(heads=0)


def test_class_token_as_the_query_needs_a_class_token():
    pooling = Aim(query="class_token")
    with pytest.raises(InputError, match="no class token"):
        pooling.init(jax.random.key(0), example(prefix=0))
