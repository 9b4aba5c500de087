"""The Swin Transformer: sizes, windows, padding, scanning, taps, observer, layer dropping."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mim_jax.models.blocks import Computation
from mim_jax.models.stacking import stack_blocks, unstack_blocks
from mim_jax.models.swin import SwinConfig, SwinTransformer, drop_last_blocks
from mim_jax.models.swin_presets import SWIN_ENCODERS
from mim_jax.ops.attention import attention
from mim_jax.ops.windows import cyclic_shift, join_windows
from tests.golden_cases import relative_error
from tests.models import swin_numpy

# The second stage's map is one window, which is not shifted.
SIZES = {"image_size": (16, 24), "patch_size": (2, 2), "width": 8, "depths": (3, 2), "num_heads": (2, 4)}
TINY = SwinConfig(1, **SIZES, window=(4, 6), mask_token=True, drop_path_rate=0.5)
TINY_2 = replace(TINY, version=2)
DENSE = SwinConfig(1, (96, 136), width=4, depths=(2, 1, 1, 1), num_heads=(1, 1, 2, 2), window=5, pad_windows=True)
SCANNED = Computation(scan_blocks=True)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@functools.cache
def shapes(config, computation=Computation()):
    images = jnp.zeros((1, *config.image_size, config.channels))
    return jax.eval_shape(SwinTransformer(config, computation).init, jax.random.key(0), images)["params"]


@functools.cache
def parameters(config):
    """Parameters that are random everywhere: as they start, the blocks of version 2 do nothing."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        centre = {"scale": 1.0, "logit_scale": 2.0}.get(path[-1].key, 0.0)
        return (centre + 0.3 * random.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes(config))


@functools.cache
def images(config):
    shape = (2, *config.image_size, config.channels)
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames=("observer", "taps"))
def apply(config, computation, tree, images, **options):
    return run(config, computation, tree, images, **options)


def run(config, computation, tree, images, **options):
    """Always from parameters in per-block form."""
    tree = stack_blocks(tree) if computation.scan_blocks else tree
    return SwinTransformer(config, computation).apply({"params": tree}, images, **options)


def encode(config, tree, computation=Computation(), **options):
    return apply(config, computation, tree, images(config), **options)


@functools.cache
def observed(config, scan=False, key=None):
    """What the encoder gives when it is asked for everything."""
    key = None if key is None else jax.random.key(key)
    taps = tuple(range(sum(config.depths), -1, -1))
    options = {"observer": residual, "dropout_key": key, "taps": taps}
    return encode(config, parameters(config), Computation(scan_blocks=scan), **options)


@pytest.mark.parametrize(
    "name, total",
    [
        ("swinv2_tiny", 27_578_154),
        ("swinv2_small", 48_959_418),
        ("swinv2_base", 86_893_816),
        ("swinv2_large", 195_202_932),
        ("swinv2_huge", 655_219_370),
        ("swin_base_patch4_window6_192", 87_750_176 - 1025 * 1000),
        ("swin_base_patch4_window7", 87_768_224 - 1025 * 1000),
        ("swin_large_patch4_window14", 196_794_556 - 1537 * 1000),
    ],
)
def test_parameter_counts_are_the_published_ones(name, total):
    assert count(shapes(SwinConfig(**SWIN_ENCODERS[name]), SCANNED)) == total


@pytest.mark.parametrize(
    "name, total, width",
    [("swin_base_patch4_window6_192", 89_874_104, 1024), ("swin_large_patch4_window12_192", 199_881_204, 1536)],
)
def test_parameter_counts_of_pre_training_are_the_published_ones(name, total, width):
    config = SwinConfig(**SWIN_ENCODERS[name], mask_token=True)
    assert config.output_width == width and config.output_stride == (32, 32)
    assert count(shapes(config, SCANNED)) + 3072 * width + 3072 == total


@pytest.mark.parametrize(
    "name, windows, shifts",
    [
        ("swin_base_patch4_window6_192", (6, 6, 6, 6), (3, 3, 3, 0)),
        ("swin_base_patch4_window7", (7, 7, 7, 7), (3, 3, 3, 0)),
        ("swin_large_patch4_window12_192", (12, 12, 12, 6), (6, 6, 0, 0)),
        ("swin_large_patch4_window14", (14, 14, 14, 7), (7, 7, 0, 0)),
        ("swinv2_base", (12, 12, 12, 6), (6, 6, 0, 0)),
        ("swinv2_base_window14_224", (14, 14, 14, 7), (7, 7, 0, 0)),
    ],
)
def test_effective_windows_are_the_published_ones(name, windows, shifts):
    config = SwinConfig(**SWIN_ENCODERS[name])
    assert config.stage_windows == tuple(zip(windows, windows))
    assert config.stage_shifts == tuple(zip(shifts, shifts))


@pytest.mark.parametrize("side, window", [(256, 16), (480, 30), (352, 22)])
def test_dense_windows_follow_the_image(side, window):
    windows = (window, window, window, window // 2)
    dense = {"image_size": (side, side), "windows": windows, "shift_stages": (True, True, False, False)}
    config = SwinConfig(**SWIN_ENCODERS["swinv2_base"] | dense, pad_windows=True)
    assert config.stage_windows == tuple(zip(windows, windows))
    assert config.stage_shifts == ((window // 2,) * 2,) * 2 + ((0, 0),) * 2
    assert {block.attention.reference_window for block in config.stage_blocks(3)} == {(6, 6)}


def test_only_odd_blocks_are_shifted():
    assert [block.shift for block in TINY.stage_blocks(0)] == [(0, 0), (2, 3), (0, 0)]


@pytest.mark.parametrize("version", [1, 2])
def test_padded_windows_on_a_rectangular_image_are_those_of_plain_numpy(version):
    config = replace(DENSE, version=version)
    tree = parameters(config)
    out = encode(config, tree, taps=(2, 3, 4, 5))
    assert [tap.grid for tap in out.taps] == [(24, 34), (12, 17), (6, 9), (3, 5)]
    assert out.grid == (3, 5) == config.stage_grids[-1]
    exact = jax.tree.map(np.float64, tree)
    expected = np.stack([swin_numpy.network(exact, config, image) for image in images(config).astype(np.float64)])
    assert relative_error(out.map, expected) < 1e-5


def test_padding_changes_nothing_where_windows_fit():
    config = drop_last_blocks(TINY_2, 3)
    padded = replace(config, pad_windows=True)
    np.testing.assert_allclose(*(encode(each, parameters(config)).tokens for each in (config, padded)), atol=1e-6)


def test_padding_leaves_a_window_as_it_is():
    padded = replace(DENSE, window=7, windows=(7, 7, 7, 7))
    assert padded.stage_windows == ((7, 7),) * 4 and padded.stage_shifts == ((3, 3),) * 4


def value_and_gradient(config, tree, computation, key=None):
    def value(tree, images, mask):
        out = run(config, computation, tree, images, mask=mask, dropout_key=key)
        return jnp.square(out.tokens - 0.5).mean() + out.tokens[0, 0, 0]

    compiled = jax.jit(jax.value_and_grad(value))
    return compiled(tree, images(config), checkered(config))


def checkered(config):
    return np.indices(config.grid).sum(axis=0).reshape(1, -1).repeat(2, axis=0).astype(np.float32) % 2


@pytest.mark.parametrize("config, remat, key", [(TINY, "dots", 3), (TINY_2, "none", None)], ids=["1", "2"])
def test_scanning_changes_neither_output_nor_gradient(config, remat, key):
    config = replace(drop_last_blocks(config, 1), drop_path_rate=0.2)
    key = None if key is None else jax.random.key(key)
    tree = parameters(config)
    value, gradient = value_and_gradient(config, tree, Computation(), key)
    scanned = Computation(scan_blocks=True, remat=remat)
    other, other_gradient = value_and_gradient(config, tree, scanned, key)
    assert float(other) == pytest.approx(float(value), rel=1e-6)
    for one, two in zip(jax.tree.leaves(gradient), jax.tree.leaves(other_gradient)):
        assert relative_error(one, two) < 2e-5


def test_padding_has_a_gradient_although_its_keys_have_no_direction():
    config = replace(DENSE, version=2, depths=(1,), num_heads=(1,), mask_token=True)
    _, gradient = value_and_gradient(config, parameters(config), Computation())
    assert all(jnp.isfinite(leaf).all() and leaf.any() for leaf in jax.tree.leaves(gradient))


def test_stacked_parameters_are_what_a_scan_makes():
    assert shapes(TINY_2, SCANNED) == jax.eval_shape(stack_blocks, parameters(TINY_2))


@pytest.mark.parametrize("scan", [False, True])
def test_taps_are_taken_before_the_merging(scan):
    out = observed(TINY, scan)
    assert [tap.grid for tap in out.taps] == [(4, 6)] * 2 + [(8, 12)] * 4
    assert [tap.tokens.shape for tap in out.taps] == [(2, 24, 16)] * 2 + [(2, 96, 8)] * 4
    expected = swin_numpy.layer_norm(np.asarray(out.taps[0].tokens), parameters(TINY)["norm"])
    np.testing.assert_allclose(out.tokens, expected, atol=1e-5)
    assert out.grid == (4, 6) and out.prefix == 0


def residual(seen):
    """Attention again from what an observer sees, up to the last projection."""
    heads = attention(seen.query, seen.key, seen.value, scale=seen.scale, bias=seen.bias)
    windows = jnp.moveaxis(heads, 2, 3).reshape(*heads.shape[:2], heads.shape[3], -1)
    layout = seen.windows
    assert layout.size == (4, 6) and windows.shape[1] == layout.grid[0] * layout.grid[1]
    grid = layout.grid[0] * layout.size[0], layout.grid[1] * layout.size[1]
    joined, shift = join_windows(windows, grid, layout.size), jnp.asarray(layout.shift)
    back = jnp.where(shift.any(), cyclic_shift(joined, (-2, -3)), joined)
    return {
        "heads": back.reshape(*seen.block_input.shape),
        "input": seen.block_input,
        "branch": seen.branch_output,
        "shift": shift,
        "stride": jnp.asarray(layout.stride),
    }


@pytest.mark.parametrize("scan", [False, True])
def test_observer_sees_what_attention_computes(scan):
    seen = observed(TINY, scan).observations
    assert [stage["shift"].tolist() for stage in seen] == [[[0, 0], [2, 3], [0, 0]], [[0, 0]] * 2]
    assert [stage["stride"].tolist() for stage in seen] == [[[2, 2]] * 3, [[4, 4]] * 2]
    for stage, results in enumerate(seen):
        for layer in range(TINY.depths[stage]):
            proj = parameters(TINY)[f"stage{stage}"]["blocks"][str(layer)]["attn"]["proj"]
            kernel = proj["kernel"].reshape(-1, proj["bias"].size)
            expected = results["heads"][layer] @ kernel + proj["bias"]
            np.testing.assert_allclose(results["branch"][layer], expected, atol=1e-5)


def test_observed_input_is_the_tap_before():
    out = observed(TINY, True)
    for layer, tap in enumerate(reversed(out.taps[3:])):
        np.testing.assert_allclose(out.observations[0]["input"][layer], tap.tokens, atol=1e-6)


def test_observed_branch_of_version_2_is_what_is_added():
    norm, branch = parameters(TINY_2)["stage0"]["blocks"]["0"]["norm1"], observed(TINY_2).observations[0]["branch"][0]
    standard = (np.asarray(branch) - norm["bias"]) / norm["scale"]
    np.testing.assert_allclose(standard.mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std(axis=-1), 1, atol=1e-2)


def test_blocks_of_version_2_do_nothing_at_the_start():
    config = drop_last_blocks(TINY_2, 4)
    init = jax.jit(SwinTransformer(config).init)
    tree = init(jax.random.key(0), images(config))["params"]
    out = encode(config, tree, taps=(0, 1))
    assert tree["stage0"]["blocks"]["0"]["norm2"]["scale"].tolist() == [0] * 8
    assert jnp.array_equal(out.taps[0].tokens, out.taps[1].tokens)


def test_mask_token_stands_in_behind_the_norm_and_before_positions():
    config = drop_last_blocks(replace(TINY, position="learned"), 4)
    tree, mask = parameters(config), checkered(config)
    tokens, plain = (encode(config, tree, mask=given, taps=(0,)).taps[0].tokens for given in (mask, 0 * mask))
    expected = np.where(mask[..., None] > 0, tree["mask_token"] + tree["pos_embed"]["table"], plain)
    np.testing.assert_allclose(tokens, expected, atol=1e-6)


def test_extra_norms_follow_every_so_many_blocks_and_are_not_scanned():
    config = replace(TINY_2, norm_every=3)
    tree = parameters(config)
    blocks = [(stage, layer) for stage in range(2) for layer in range(config.depths[stage])]
    having = [place for place in blocks if "extra_norm" in tree[f"stage{place[0]}"]["blocks"][str(place[1])]]
    assert having == [(0, 2)]
    stacked = jax.jit(stack_blocks)(tree)
    assert set(stacked["stage0"]["blocks"]) == {"0", "1", "2"} and set(stacked["stage1"]["blocks"]) == {"stacked"}
    assert jax.tree.all(jax.tree.map(np.array_equal, jax.jit(unstack_blocks)(stacked), tree))
    norm, tokens = tree["stage0"]["blocks"]["2"]["extra_norm"], observed(config, True).taps[2].tokens
    standard = (np.asarray(tokens) - norm["bias"]) / norm["scale"]
    np.testing.assert_allclose(standard.mean(axis=-1), 0, atol=1e-5)


def test_stochastic_depth_needs_a_key_and_spares_the_first_block():
    plain, dropped = (observed(TINY, True, key).taps for key in (None, 1))
    assert jnp.array_equal(plain[-2].tokens, dropped[-2].tokens)
    assert not any(jnp.allclose(plain[i].tokens, dropped[i].tokens) for i in range(3))


def test_bfloat16_computation_stays_close():
    config = drop_last_blocks(TINY, 3)
    out = encode(config, parameters(config), Computation(dtype="bfloat16"))
    assert out.tokens.dtype == jnp.float32
    np.testing.assert_allclose(out.tokens, encode(config, parameters(config)).tokens, atol=0.1)


def test_dropping_blocks_goes_on_over_the_border_of_a_stage():
    base = SwinConfig(**SWIN_ENCODERS["swinv2_base"])
    assert drop_last_blocks(base, 0) == base
    one, four = drop_last_blocks(base, 1), drop_last_blocks(base, 4)
    assert one.depths == (2, 2, 18, 1) and one.output_stride == (32, 32) and one.pretrained_windows == (12, 12, 12, 6)
    assert four.depths == (2, 2, 16) and four.num_heads == (4, 8, 16) and four.pretrained_windows == (12, 12, 12)
    assert four.output_width == 512 and four.output_stride == (16, 16)
    assert "merging" in shapes(TINY)["stage0"] and "merging" not in shapes(drop_last_blocks(TINY, 2))["stage0"]


def test_dropped_blocks_are_those_behind_the_tap():
    short, tree = drop_last_blocks(replace(TINY, final_norm=False), 3), dict(parameters(TINY))
    tree["stage0"] = {"blocks": {name: tree["stage0"]["blocks"][name] for name in "01"}}
    out = encode(short, tree)
    np.testing.assert_allclose(out.tokens, observed(TINY).taps[3].tokens, atol=1e-5)
    assert out.observations is None


@pytest.mark.parametrize("dropped", [-1, 5, 9])
def test_at_least_one_block_must_be_left(dropped):
    with pytest.raises(ValueError, match="choose a number from 0 to 4"):
        drop_last_blocks(TINY, dropped)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"version": 3}, "version must be one of 1, 2, not '3'"),
        ({"position": "sincos"}, "position must be one of 'none', 'learned', not 'sincos'"),
        ({"qkv_bias": "key"}, "qkv_bias must be one of"),
        ({"patch_size": (5, 5)}, "not divisible by the patch size"),
        ({"depths": ()}, "every stage needs at least one block"),
        ({"depths": (2, 0)}, "every stage needs at least one block"),
        ({"num_heads": (2, 4, 8)}, "num_heads has 3 entries for 2 stages"),
        ({"num_heads": (2, 3)}, "stage 1 has width 16, which is not divisible by 3 heads"),
        ({"windows": (4,)}, "windows has 1 entries for 2 stages"),
        ({"shift_stages": (True,) * 4}, "shift_stages has 4 entries for 2 stages"),
        ({"version": 2, "pretrained_windows": (4,)}, "pretrained_windows has 1 entries for 2 stages"),
        ({"pretrained_windows": (4, 4)}, "pretrained_windows belong to version 2"),
        ({"window": 0}, "a window needs at least one token a side"),
        ({"window": 5}, "map of stage 0 has 8x12 tokens, which windows of 5x5 do not divide"),
        ({"window": 4}, "map of stage 1 has 4x6 tokens, which windows of 4x4 do not divide"),
        ({"window": 9}, "map of stage 0 has 8x12 tokens, which windows of 8x8 do not divide"),
    ],
)
def test_wrong_settings_are_refused_with_a_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(TINY, **changes)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"keep": jnp.zeros((2, 4), jnp.int32)}, "windows need all patches"),
        ({"mask": checkered(TINY)}, "set mask_token"),
    ],
)
def test_wrong_calls_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        encode(replace(TINY, mask_token=False), parameters(TINY), **options)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match="images are 24x16, but the encoder is made for 16x24"):
        SwinTransformer(TINY).apply({"params": parameters(TINY)}, jnp.zeros((1, 24, 16, 3)))
