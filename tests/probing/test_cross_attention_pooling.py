"""Poolings by cross-attention with maps around it: parity with the originals, parameter counts, switches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.models.attention import AttentionConfig
from mim_jax.models.blocks import Block, BlockConfig
from mim_jax.probing.pooling.cross_attention import Cae, Clip, CoCa, SigLip, VJepa, VJepa2
from tests import golden_cases
from tests.golden_cases import relative_error
from tests.probing.golden_heads import (
    TOLERANCE,
    apply,
    class_token_error,
    drawn,
    errors,
    example,
    initial,
    parameter_count,
)

_JEPA = (
    (r"\bquery$", "query_tokens"),
    (r"\bcross\.proj", "cross.xattn.proj"),
    (r"\bcross\.", "cross_attention_block."),
    (r"\bblock(\d)\.", lambda match: f"blocks.{int(match[1]) - 1}."),
    (r"(blocks\.\d)\.(qkv|proj)", r"\1.attn.\2"),
)
CASES = {
    "cae": (Cae(), ((r"\bquery$", "query_token"), (r"pooling\.proj", "pooling.cross_attn.proj"))),
    "jepa": (VJepa(out_projection=True), _JEPA),
    "jepa_depth3": (VJepa(depth=3, out_projection=True), _JEPA),
    "siglip": (SigLip(), ((r"\bquery$", "latent"), (r"attention\.", ""))),
    "clip": (Clip(), ()),
}
COUNTS = [
    (Cae(), 2_366_976 - 1_536),  # without the norm that the original does not use
    (Cae(query_value_bias=True), 2_366_976 - 1_536 + 2 * 768),
    (VJepa(out_projection=True), 7_088_640),
    (VJepa(), 6_498_048),
    (VJepa2(), 6_498_048 + 3 * 7_087_872),
    (SigLip(), 7_085_568),
    (Clip(), 2_515_200),
    (CoCa(), 1_036_032),
]


@pytest.mark.parametrize("case", CASES)
def test_pooling_and_classifier_match_the_original(case: str):
    assert max(errors(case, *CASES[case]).values()) < TOLERANCE


def test_coca_matches_the_original():
    stored = golden_cases.checkpoint("probe/coca")
    parts = {"head.0.": "pooling.", "head.1.": "bn.", "head.2.": "linear."}
    tensors = {parts[name[:7]] + name[7:]: array for name, array in stored.items()}
    names = ((r"pooling\.query$", "pooling.img_queries"), (r"pooling\.norm$", "pooling.norm.gamma"))
    assert max(errors("coca", CoCa(), names, tensors).values()) < TOLERANCE


@pytest.mark.parametrize("name", ["jepa", "clip"])
def test_class_token_as_the_query_matches_the_original(name: str):
    jepa = VJepa(heads=4, out_projection=True, query="class_token")
    pooling, names = {"jepa": (jepa, _JEPA), "clip": (Clip(query="class_token"), ())}[name]
    assert class_token_error(name, pooling, names) < TOLERANCE


@pytest.mark.parametrize("pooling, count", COUNTS)
def test_parameters_are_as_many_as_in_the_original(pooling, count: int):
    assert parameter_count(pooling) == count


def test_an_identity_as_the_out_projection_is_none():
    tokens, pooling = example(), VJepa(heads=4, out_projection=True)
    parameters = drawn(pooling, tokens)["params"]
    identity = {"kernel": jnp.eye(24).reshape(4, 6, 24), "bias": jnp.zeros(24)}
    with_map = {"params": {**parameters, "cross": {**parameters["cross"], "proj": identity}}}
    without = {name: leaf for name, leaf in parameters["cross"].items() if name != "proj"}
    plain = apply(VJepa(heads=4), {"params": {**parameters, "cross": without}}, tokens)
    assert relative_error(apply(pooling, with_map, tokens), plain) < 1e-6


def test_vjepa2_is_vjepa_over_the_tokens_behind_ordinary_blocks():
    tokens, pooling = example(), VJepa2(heads=4, blocks=2)
    parameters = drawn(pooling, tokens)["params"]
    block = Block(BlockConfig(AttentionConfig(4), norm_epsilon=1e-5))
    behind = tokens.patches
    for layer in range(2):
        ours = dict(parameters[f"block{layer}"])
        ours["attn"] = {name: ours.pop(name) for name in ("qkv", "proj")}
        behind = jax.jit(lambda ours, x: block.apply({"params": ours}, x, (None, 0.0))[0])(ours, behind)
    rest = {name: parameters[name] for name in ("query", "cross")}
    expected = apply(VJepa(heads=4), {"params": rest}, tokens.replace(tokens=behind, prefix=0))
    assert relative_error(apply(pooling, {"params": parameters}, tokens), expected) < 1e-5


def test_only_the_first_query_of_coca_has_a_gradient():
    tokens, pooling = example(), CoCa(queries=3)
    gradient = jax.jit(jax.grad(lambda variables: jnp.square(pooling.apply(variables, tokens)).sum()))
    query = gradient(drawn(pooling, tokens))["params"]["query"]
    assert query[0].any() and not query[1:].any()


def test_poolings_start_as_the_originals():
    deep = initial(VJepa(heads=4, depth=2, out_projection=True), example(width=64))["params"]
    deviations = {
        "cross/xattn/kv": 0.02,
        "cross/proj": 0.02 / 2**0.5,
        "cross/mlp/fc2": 0.02 / 2**0.5,
        "block1/mlp/fc1": 0.02,
        "block1/proj": 0.02 / 4**0.5,
        "block1/mlp/fc2": 0.02 / 4**0.5,
    }
    for path, deviation in deviations.items():
        leaf = deep
        for part in path.split("/"):
            leaf = leaf[part]
        assert abs(leaf["kernel"].std() / deviation - 1) < 0.1, path
        assert not leaf["bias"].any()
    cae = initial(Cae(), example(width=64))["params"]
    assert not cae["query"].any()
    assert 0.12 < jnp.abs(cae["proj"]["kernel"]).max() <= 64**-0.5
    assert cae["proj"]["bias"].any()


@pytest.mark.parametrize(
    "pooling, heads",
    [(Cae(), 8), (VJepa(), 12), (SigLip(), 8), (Clip(), 4), (CoCa(), 8), (VJepa2(heads=4, blocks=1), 4)],
)
def test_weights_are_of_the_patches_and_one_image_is_enough(pooling, heads: int):
    tokens = example(batch=1, dtype=jnp.bfloat16)
    pooled, variables = jax.eval_shape(pooling.init_with_output, jax.random.key(0), tokens)
    assert pooled.shape == (1, 24) and pooled.dtype == np.float32
    weights = jax.eval_shape(lambda *given: pooling.apply(*given, method="weights"), variables, tokens)
    assert weights.shape == (1, heads, 16)
