"""The Swin Transformer against the original code, timm and Hugging Face."""

import functools
from dataclasses import replace

import jax
import numpy as np
import pytest

from mim_jax.models.classifier import Classifier
from mim_jax.models.swin import SwinConfig, SwinTransformer
from tests import golden_cases as golden
from tests.sine_fill import affine, sine, sine_images, sine_tensors
from tests.swin_golden import config, from_tensors, parameters

TOLERANCE = 2e-5  # 1.2e-5 at most, on a CPU without AVX-512

CLASSIFIERS = [
    ("swin_classifier", 1, "original"),
    ("swinv2_classifier", 2, "original"),
    ("timm_swin", 1, "timm"),
    ("timm_swinv2", 2, "timm"),
    ("hf_swin", 1, "hugging_face"),
    ("hf_swinv2", 2, "hugging_face"),
]

MASKED = [
    ("simmim_swin_pretrain", 1, "original"),
    ("simmim_swinv2_pretrain", 2, "original"),
    ("hf_swin_masked_image_modeling", 1, "hugging_face"),
    ("hf_swinv2_masked_image_modeling", 2, "hugging_face"),
]


@functools.partial(jax.jit, static_argnums=0, static_argnames="taps")
def encode(encoder, tree, images, mask=None, taps=()):
    return SwinTransformer(encoder).apply({"params": tree}, images, mask=mask, taps=taps)


def agree(ours, theirs):
    assert golden.relative_error(ours, theirs) <= TOLERANCE


@pytest.mark.parametrize("name, version, layout", CLASSIFIERS)
def test_classifier_gives_the_recorded_features_and_logits(name, version, layout):
    arrays, tree, encoder = golden.arrays(name), parameters(name, layout), config(name, version)
    images = golden.channels_last(arrays["images"])
    stages = [stage for stage in range(len(encoder.depths)) if f"stage_{stage}" in arrays]
    taps = tuple(sum(encoder.depths[: stage + 1]) for stage in stages)
    out = encode(encoder, tree["encoder"], images, taps=taps)
    pooled = out.tokens.mean(axis=1)
    agree(pooled @ tree["head"]["kernel"] + tree["head"]["bias"], arrays["logits"])
    tokens = {2: pooled, 3: out.tokens, 4: out.map}
    for recorded in arrays.keys() & {"features", "tokens"}:
        agree(tokens[arrays[recorded].ndim], arrays[recorded])
    for stage, tap in zip(stages, out.taps):
        agree(tap.map, arrays[f"stage_{stage}"])


def test_linear_head_on_the_mean_is_the_classifier():
    name = "swin_classifier"
    arrays, tree = golden.arrays(name), parameters(name, "original")
    classifier = Classifier(SwinTransformer(config(name, 1)), 10, readout="mean")
    images = golden.channels_last(arrays["images"])
    logits, features = jax.jit(classifier.apply)({"params": tree}, images)
    agree(logits, arrays["logits"])
    agree(features, arrays["features"])


@pytest.mark.parametrize("name, version, layout", MASKED)
def test_masked_image_gives_the_recorded_tokens(name, version, layout):
    arrays, tree = golden.arrays(name), parameters(name, layout)
    mask = arrays["mask"].reshape(2, -1).astype(np.float32)
    encoder = config(name, version, mask_token=True)
    out = encode(encoder, tree["encoder"], golden.channels_last(arrays["images"]), mask)
    if "tokens" in arrays:
        agree(out.tokens, arrays["tokens"])
    else:
        agree(out.map, golden.channels_last(arrays["encoder_features"]))


def test_padded_windows_give_the_recorded_features_of_a_depth_network():
    arrays, tree = golden.arrays("depth_network"), parameters("depth_network", "original")
    model = golden.case("depth_network")["model"]
    encoder = config(
        "depth_network",
        2,
        image_size=(64, 96),
        window=1,
        windows=tuple(model["window_size"]),
        pretrained_windows=tuple(model["pretrain_window_size"]),
        shift_stages=tuple(model["use_shift"]),
        pad_windows=True,
    )
    out = encode(encoder, tree["encoder"], golden.channels_last(arrays["images"]))
    assert out.grid == (2, 3)
    agree(out.map, golden.channels_last(arrays["encoder_features"]))


# Numbers that the original code computed in float64 from parameters and images made of a sine.

SINE = SwinConfig(1, (48, 48), width=8, depths=(2, 2), num_heads=(2, 4), window=3, mask_token=True)


def block_shapes(name, width, heads):
    attention = {f"{name}.attn.relative_position_bias_table": (25, heads)}
    attention |= affine(f"{name}.attn.qkv", 3 * width, width) | affine(f"{name}.attn.proj", width, width)
    mlp = affine(f"{name}.mlp.fc1", 4 * width, width) | affine(f"{name}.mlp.fc2", width, 4 * width)
    return attention | mlp | affine(f"{name}.norm1", width) | affine(f"{name}.norm2", width)


def encoder_shapes():
    shapes = affine("patch_embed.proj", 8, 3, 4, 4) | affine("patch_embed.norm", 8) | affine("norm", 16)
    for stage, (width, heads) in enumerate([(8, 2), (16, 4)]):
        for block in range(2):
            shapes |= block_shapes(f"layers.{stage}.blocks.{block}", width, heads)
    return shapes | affine("layers.0.downsample.norm", 32) | {"layers.0.downsample.reduction.weight": (16, 32)}


def test_masked_image_gives_the_published_numbers():
    shapes = {f"encoder.{name}": shape for name, shape in encoder_shapes().items()}
    shapes |= {"encoder.mask_token": (1, 1, 8)} | affine("decoder.0", 192, 16, 1, 1)
    assert len(shapes) == 64
    tree = from_tensors(sine_tensors(shapes), [2, 4])["encoder"]
    cells = sine(3000, 2, 6, 6) < 0.6
    mask = cells.repeat(2, axis=1).repeat(2, axis=2).reshape(2, -1).astype(np.float32)
    features = encode(SINE, tree, sine_images(2, 48), mask).map
    expected = [1.287657453, -1.290583885, -1.272069925, -1.319981254]
    np.testing.assert_allclose(features[0, 0, :4, 0], expected, rtol=TOLERANCE)
    assert np.asarray(features, np.float64).sum() == pytest.approx(-13.93348514, abs=1e-4)


def test_classifier_gives_the_published_numbers():
    shapes = encoder_shapes() | affine("head", 5, 16)
    assert len(shapes) == 63
    tree = from_tensors(sine_tensors(shapes), [2, 4])
    pooled = encode(replace(SINE, mask_token=False), tree["encoder"], sine_images(2, 48)).tokens.mean(axis=1)
    expected = [
        [0.169699895, -0.122932132, 0.107119118, -0.178840164, 0.213304603],
        [0.194554025, -0.070771393, 0.263037521, -0.185485487, 0.173871979],
    ]
    agree(pooled @ tree["head"]["kernel"] + tree["head"]["bias"], np.asarray(expected))
