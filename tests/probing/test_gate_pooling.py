"""CBAM and DOLG: parity with the originals, parameter counts, maps that are not square."""

import jax
import jax.numpy as jnp
import pytest

from mim_jax.pretraining.heads import STATISTICS
from mim_jax.probing.pooling.frozen import FrozenTokens
from mim_jax.probing.pooling.gates import Cbam, Dolg
from tests.probing.golden_heads import TOLERANCE, apply, errors, initial, parameter_count

CASES = {
    "cbam": (
        Cbam(),
        (
            (r"pooling\.fc", "pooling.channel.fc"),
            (r"pooling\.conv\.", "pooling.spatial.conv.conv."),
            (r"pooling\.norm", "pooling.spatial.conv.bn"),
        ),
    ),
    "dolg": (Dolg(), ((r"pooling\.norm", "pooling.bn"),)),
}
COUNTS = [(Cbam(), 73_828), (Dolg(), 592_897)]


@pytest.mark.parametrize("case", CASES)
def test_pooling_and_classifier_match_the_original(case: str):
    assert max(errors(case, *CASES[case]).values()) < TOLERANCE


@pytest.mark.parametrize("pooling, count", COUNTS)
def test_parameters_are_as_many_as_in_the_original(pooling, count: int):
    assert parameter_count(pooling) == count


@pytest.mark.parametrize("pooling", [Cbam(), Dolg()])
def test_maps_need_not_be_square_and_one_image_is_enough(pooling):
    tokens = FrozenTokens(tokens=jnp.ones((1, 7, 24), jnp.bfloat16), grid=(2, 3), prefix=1)
    pooled, variables = jax.eval_shape(pooling.init_with_output, jax.random.key(0), tokens)
    assert pooled.shape == (1, 24) and pooled.dtype == jnp.float32
    assert variables[STATISTICS]["norm"]["mean"].shape == (1 if isinstance(pooling, Cbam) else 24,)
    weights = jax.eval_shape(lambda *given: pooling.apply(*given, method="weights"), variables, tokens)
    assert weights.shape == (1, 1, 6)


def test_features_of_length_zero_count_as_zero():
    tokens = FrozenTokens(tokens=jnp.zeros((2, 4, 8)), grid=(2, 2), prefix=0)
    variables = initial(Dolg(), tokens)
    variables["params"]["conv1"]["bias"] = jnp.zeros(8)
    assert not apply(Dolg(), variables, tokens).any()
