"""A frozen encoder on the mesh: its parameters where they belong, and its way from images to batches."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, UInt8

from mim_jax.data.pipeline import evaluation_batches
from mim_jax.data.preprocessing import normalise
from mim_jax.data.sources import Source
from mim_jax.errors import InputError
from mim_jax.experiments.places import RANDOM
from mim_jax.experiments.plan import evaluation_transform
from mim_jax.experiments.shared_settings import Computing, EvaluationImages
from mim_jax.models.blocks import Computation
from mim_jax.models.build import initial_parameters
from mim_jax.training.sharding import AnyMesh, global_batch, state_shardings
from mim_jax.weights.loading import load
from mim_jax.weights.model import Model
from mim_jax.weights.options import parse_statements


def load_encoder(where: str, stated: str = "", seed: int = 0) -> Model:
    """The model at a path; raises InputError for whatever cannot be read."""
    model = load(where.removeprefix(RANDOM), stated=parse_statements(stated.split()))
    if not where.startswith(RANDOM):
        return model
    fresh = jax.jit(functools.partial(initial_parameters, model.encoder_config))(jax.random.key(seed))
    return dataclasses.replace(model, parameters={"encoder": fresh}, objective=None)


@dataclasses.dataclass(frozen=True)
class PlacedEncoder:
    """An encoder and what its images go through.

    Attributes:
        name: what the user calls it.
        model: the model.
        mesh: the devices.
        data: where images are and how they are cropped.
        efficiency: how it is computed.
        batch_size: images at a time; rounded up to a multiple of the devices that share a batch.
    """

    name: str
    model: Model
    mesh: AnyMesh
    data: EvaluationImages
    efficiency: Computing
    batch_size: int

    @property
    def computation(self) -> Computation:
        """How it is computed: the same wherever this encoder is run, so that one report has one precision."""
        return Computation(dtype=self.efficiency.dtype)

    @functools.cached_property
    def parameters(self) -> Any:
        """The encoder's parameters where they belong."""
        tree = self.model.parameters["encoder"]
        return jax.device_put(tree, state_shardings(tree, self.mesh))

    @property
    def rows(self) -> int:
        """Images in a batch."""
        shards = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
        return -(-self.batch_size // shards) * shards

    def host_batches(self, source: Source) -> Iterator[dict[str, np.ndarray]]:
        """Every image once, in order, in its evaluation crop: this process's part of `image`, `label`, `valid`."""
        return evaluation_batches(
            source,
            evaluation_transform(self.data, self.model.preprocessing.image_size),
            batch_size=self.rows,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            on_corrupt=self.data.on_corrupt,
            num_threads=self.efficiency.loader_threads or None,
        )

    def batches(self, source: Source) -> Iterator[dict[str, Any]]:
        """The same as global arrays on the devices; images are still uint8.

        Raises InputError if images have other channels than the encoder takes.
        """
        wanted = self.model.preprocessing.channels
        for batch in self.host_batches(source):
            if (channels := batch["image"].shape[-1]) != wanted:
                raise InputError(
                    f"images have {channels} channel{'s' * (channels > 1)}, but the encoder takes {wanted}; give it "
                    "images as it was trained on"
                )
            yield global_batch(batch, self.mesh)

    def normalise(self, images: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Pixels as the encoder expects them."""
        return normalise(images, self.model.preprocessing.mean, self.model.preprocessing.std)

    def fingerprint(self, *others: Model, **facts: Any) -> str:
        """Hash of what decides its output: its weights and those of `others`, preprocessing, crop, type, `facts`."""
        digest = hashlib.sha256()
        for model in (self.model, *others):
            for path, leaf in sorted(flatten_dict(model.parameters["encoder"], sep="/").items()):
                digest.update(path.encode() + np.ascontiguousarray(leaf).tobytes())
        plain: Mapping[str, Any] = {
            "encoder": dataclasses.asdict(self.model.encoder_config),
            "preprocessing": dataclasses.asdict(self.model.preprocessing),
            "crop": [self.data.evaluation_transform, self.data.crop_fraction],
            "dtype": self.efficiency.dtype,
            **facts,
        }
        digest.update(json.dumps(plain, sort_keys=True).encode())
        return digest.hexdigest()[:16]


def listing_hash(source: Source, *facts: Any) -> str:
    """Hash of the names of all images of a source in their order, and of `facts`."""
    names = [source.describe(index) for index in range(len(source))]
    return hashlib.sha256("\n".join([*names, *map(str, facts)]).encode()).hexdigest()[:16]
