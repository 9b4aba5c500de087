"""What a run's encoder knows, beside the same encoder at random initialisation and raw pixels."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.experimental import multihost_utils
from jax.sharding import Sharding
from jaxtyping import Array, Float

from mim_jax.data.pipeline import evaluation_batches
from mim_jax.data.sources import Source
from mim_jax.data.subset import random_subset
from mim_jax.experiments.labels import makeable_shots
from mim_jax.experiments.learner import Learner
from mim_jax.experiments.plan import evaluation_transform, image_size, make_prepare
from mim_jax.models.applying import encode
from mim_jax.models.build import Parameters
from mim_jax.pretraining.objective import Objective
from mim_jax.probing.evaluate import NEIGHBOURS, probe_features
from mim_jax.probing.knn import knn_accuracy
from mim_jax.probing.pooling import mean_patch_tokens
from mim_jax.probing.table import RAW_PIXELS, Read, probe_table
from mim_jax.training.sharding import global_batch, replicated

RAW_PIXELS_LIMIT = 1024
"""Images with more numbers than this are not probed as raw pixels: that would take longer than all else."""

PIXELS = "raw pixels"

Encode = Callable[[Float[Array, "b h w c"]], Float[Array, "b _"]]
Encoders = Mapping[str, Encode]


class FrozenFeatures:
    """Features of the images of a source under several encoders, all from one pass over the data."""

    def __init__(self, learner: Learner, train: Source, test: Source):
        self.learner = learner
        settings = learner.settings
        part = random_subset(train, settings.evaluation.train_images, settings.optimization.seed)
        self.sources = {"train": part, "test": test}

    def batches(self, part: str, limit: int = 0) -> Iterator[dict[str, Any]]:
        """Global batches of the training or test images in evaluation crops; at most `limit` images if given."""
        settings = self.learner.settings
        found = 0
        host = evaluation_batches(
            self.sources[part],
            evaluation_transform(settings.data, image_size(settings)),
            batch_size=self._batch_size(),
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            on_corrupt=settings.data.on_corrupt,
            num_threads=settings.efficiency.loader_threads or None,
        )
        for batch in host:
            yield global_batch(batch, self.learner.mesh)
            found += self._batch_size()
            if limit and found >= limit:
                return

    def _batch_size(self) -> int:
        """The batch size of the settings, made a multiple of the devices that share a batch."""
        shards = self.learner.mesh.shape["data"] * self.learner.mesh.shape["fsdp"]
        return -(-self.learner.settings.evaluation.batch_size // shards) * shards

    def extract(self, encoders: Encoders, part: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Features `[n, d]` by encoder, and labels `[n]`, of the valid images in order."""
        prepare = make_prepare(self.learner.preprocessing)
        features: dict[str, list[np.ndarray]] = {name: [] for name in encoders}
        labels = []
        for batch in self.batches(part):
            label, valid = on_host((batch["label"], batch["valid"]))
            labels.append(label[valid])
            for name, values in _encode(dict(encoders), prepare(batch)["image"], replicated(self.learner.mesh)).items():
                features[name].append(np.asarray(values)[valid])
        return {name: np.concatenate(parts) for name, parts in features.items()}, np.concatenate(labels)


def on_host(tree: object) -> Any:
    """Global arrays as numpy arrays in every process."""
    if jax.process_count() > 1:
        tree = multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(np.asarray, tree)


@functools.partial(jax.jit, static_argnums=2)
def _encode(encoders: Encoders, images: Float[Array, "b h w c"], sharding: Sharding) -> dict[str, Float[Array, "b _"]]:
    features = {name: encode(images) for name, encode in encoders.items()}
    return jax.lax.with_sharding_constraint(features, sharding)


@dataclasses.dataclass(frozen=True)
class MeanPatchToken:
    """Parameters and images to the mean patch token of the last layer."""

    objective: Objective

    def __call__(self, parameters: Parameters, images: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
        out = encode(self.objective.encoder, parameters["encoder"], images)
        return mean_patch_tokens(jnp.asarray(out.tokens), out.prefix)


def encoder_function(learner: Learner, parameters: Parameters) -> Encode:
    """Images to features, as a function that hands its parameters to the compiler as arguments."""
    return jax.tree_util.Partial(MeanPatchToken(learner.objective), parameters)


def raw_pixels(images: Float[Array, "b h w c"]) -> Float[Array, "b p"]:
    """Images as vectors of their pixels."""
    return images.reshape(images.shape[0], -1)


def compared_encoders(learner: Learner, parameters: Parameters) -> dict[str, Encode]:
    """Raw pixels (of small images), the encoder at random initialisation, and the pre-trained one."""
    encoders = {
        "random initialisation": encoder_function(learner, learner.initial().parameters),
        "pre-trained": encoder_function(learner, parameters),
    }
    height, width = learner.preprocessing.image_size
    if height * width * learner.preprocessing.channels <= RAW_PIXELS_LIMIT:
        encoders = {PIXELS: jax.tree_util.Partial(raw_pixels)} | encoders
    return encoders


def knn_of(frozen: FrozenFeatures, parameters: Parameters) -> float:
    """k-NN accuracy of the encoder, in [0, 1]."""
    encoders = {"encoder": encoder_function(frozen.learner, parameters)}
    (train, train_labels), (test, test_labels) = (frozen.extract(encoders, part) for part in ("train", "test"))
    neighbours = min(NEIGHBOURS, len(train_labels))
    return knn_accuracy(train["encoder"], train_labels, test["encoder"], test_labels, neighbours=neighbours)


def probe(frozen: FrozenFeatures, parameters: Parameters) -> pd.DataFrame:
    """Nearest neighbours and logistic regression of all compared encoders, with few labels and all."""
    settings = frozen.learner.settings
    encoders = compared_encoders(frozen.learner, parameters)
    (train, train_labels), (test, test_labels) = (frozen.extract(encoders, part) for part in ("train", "test"))
    shots, _ = makeable_shots(settings.evaluation.shots, train_labels)
    rows = [
        probe_features(
            _read(frozen.learner, name),
            train[name],
            train_labels,
            test[name],
            test_labels,
            seed=settings.optimization.seed,
            shots=shots,
            draws=settings.evaluation.draws,
        )
        for name in encoders
    ]
    return probe_table([row for encoder in rows for row in encoder])


def _read(learner: Learner, encoder: str) -> Read:
    """What of a compared encoder is read: its last tokens, as it returns them."""
    config = learner.objective.encoder_config
    if encoder == PIXELS:
        return Read(encoder, None, RAW_PIXELS, False)
    return Read(encoder, sum(config.depths), "mean", config.final_norm)
