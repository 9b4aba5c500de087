"""A model in hand: what it prints, what it takes, and how often it is traced."""

import dataclasses

import jax
import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.models import classifier
from mim_jax.pretraining.supervised import Supervised
from mim_jax.weights.model import Model
from tests.experiments.encoders import tiny_model

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


@pytest.fixture(scope="module")
def colour() -> Model:
    return tiny_model(channels=3)


@pytest.fixture(scope="module")
def classifying() -> Model:
    encoder = tiny_model().encoder_config
    objective = Supervised(encoder, 3)
    preprocessing = tiny_model().preprocessing
    return Model(encoder, jax.jit(objective.init)(jax.random.key(0)), preprocessing, objective)


def test_a_model_prints_in_a_few_lines(model):
    origin = {"layout": "mae", "files": ["a.pth"], "sha256": "0" * 64}
    told = dataclasses.replace(model, origin=origin, notes=tuple(f"something {i} " + "is so " * 80 for i in range(9)))
    lines = repr(told).splitlines()
    assert lines[0].startswith("Model 'vit_tiny_patch16' of ") and lines[0].endswith(" parameters")
    assert lines[1] == (
        "  encoder: Vision Transformer of width 16, 2 blocks, 2 heads, patches of 2x2, images of 8x8x1, 1 prefix token"
    )
    assert lines[2:5] == [
        "  objective: none, an encoder alone",
        "  preprocessing: pixels from 0 to 1, less (0.5), over (0.5)",
        "  origin: layout mae, files ['a.pth']",
    ]
    assert lines[5].startswith("  note: something 0") and lines[-1] == "  and 5 more notes"
    assert len(lines) == 10 and max(map(len, lines)) < 220


def test_other_encoders_and_objectives_print_too(classifying):
    swin = repr(tiny_model("swinv2_tiny", pretrained_windows=()))
    assert "encoder: Swin Transformer V2 of width 8, 1-1 blocks, 1-2 heads, patches of 1x1, images of 8x8x1" in swin
    assert "objective: Supervised" in repr(classifying)


def test_nothing_is_traced_twice(classifying, monkeypatch):
    traced = []
    original = classifier.Classifier.__call__
    counted = lambda self, *given, **more: traced.append(1) or original(self, *given, **more)
    monkeypatch.setattr(classifier.Classifier, "__call__", counted)
    images = classifying.normalise(PIXELS)
    first, second = classifying.logits(images), classifying.logits(images)
    assert len(traced) == 1 and first.shape == (2, 3)
    np.testing.assert_array_equal(first, second)


def test_a_model_without_a_classifier_has_no_logits(model):
    with pytest.raises(InputError, match="this model has no classifier"):
        model.logits(model.normalise(PIXELS))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (PIXELS, r"images are uint8 pixels; pass model.normalise\(images\)"),
        (PIXELS.astype(np.int64), "images are int64 pixels"),
        (PIXELS.astype(np.float32), "values up to 25., far outside what normalised ones have"),
        (np.zeros((2, 1, 8, 8), np.float32), r"channels come last, pass images.transpose\(0, 2, 3, 1\)"),
        (np.zeros((8, 8, 1), np.float32), r"put an axis of images in front, pass images\[None\]"),
        (np.zeros((2, 9, 9, 1), np.float32), r"shape \[2, 9, 9, 1\], but the encoder takes \[n, 8, 8, 1\]$"),
        (np.zeros((2, 8, 8, 3), np.float32), r"the encoder takes \[n, 8, 8, 1\]"),
    ],
)
def test_what_is_not_normalised_is_not_encoded(model, classifying, images, message):
    for use in (model.encode, classifying.logits):
        with pytest.raises(InputError, match=message) as caught:
            use(images)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), "images are float32; pass pixels from 0 to 255 as uint8"),
        (np.zeros((2, 8, 8, 3), np.int32), "images are int32"),
        (np.zeros((2, 3, 8, 8), np.uint8), "channels come last"),
        (np.zeros((2, 8, 8, 1), np.uint8), r"pass grey images in every channel, images.repeat\(3, -1\)"),
        (np.zeros((8, 8), np.uint8), "the encoder takes"),
    ],
)
def test_what_is_no_pixel_is_not_normalised(colour, images, message):
    with pytest.raises(InputError, match=message):
        colour.normalise(images)


def test_normalised_images_are_encoded_inside_other_functions_too(model):
    images = model.normalise(PIXELS)
    direct = model.encode(images).tokens
    inside = jax.jit(lambda x: model.encode(x).tokens)(images)
    np.testing.assert_allclose(direct, inside, atol=1e-5)
    assert model.encode(images.astype("bfloat16")).tokens.shape == direct.shape
