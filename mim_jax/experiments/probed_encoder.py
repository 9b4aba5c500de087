"""One encoder that is probed: its weights on the mesh, what is read of it, and its way from images to inputs."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray, UInt8

from mim_jax.data.preprocessing import normalise
from mim_jax.data.sources import Source
from mim_jax.data.transforms import Transform
from mim_jax.errors import InputError
from mim_jax.experiments.placed_encoder import PlacedEncoder
from mim_jax.experiments.plan import evaluation_transform, training_transform
from mim_jax.experiments.probe_settings import ProbeSettings, wishes
from mim_jax.experiments.readings import Chosen, choose_readings
from mim_jax.models.build import Parameters, make_encoder
from mim_jax.probing.pooling import FrozenTokens
from mim_jax.probing.reading import ORACLE, FrozenEncoder, Oracle, Reading, split_inputs
from mim_jax.training.sharding import batch_sharding, state_shardings
from mim_jax.weights.model import Model

Trees = tuple[Parameters, Parameters | None]
"""Parameters of the encoder, and of the oracle if there is one."""


@dataclasses.dataclass(frozen=True)
class ProbedEncoder:
    """What the protocols share."""

    name: str
    model: Model
    settings: ProbeSettings
    mesh: Any
    oracle: Model | None = None

    @functools.cached_property
    def _chosen(self) -> Chosen:
        return choose_readings(self.model, self.settings.readings, wishes(self.settings))

    @property
    def readings(self) -> tuple[Reading, ...]:
        """What is read."""
        return self._chosen.readings

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not read, or otherwise than asked for."""
        return self._chosen.notes

    @functools.cached_property
    def frozen(self) -> FrozenEncoder:
        """The encoder as the probes see it."""
        rate, config = self.settings.trained.compat_drop_path, self.model.encoder_config
        config = dataclasses.replace(config, drop_path_rate=rate)
        return FrozenEncoder(make_encoder(config, self.placed.computation), config, self.readings)

    @functools.cached_property
    def placed(self) -> PlacedEncoder:
        """The encoder on the mesh."""
        settings = self.settings
        size = settings.run.evaluation_batch_size
        return PlacedEncoder(self.name, self.model, self.mesh, settings.data, settings.efficiency, size)

    @property
    def parameters(self) -> Any:
        """The encoder's parameters where they belong."""
        return self.placed.parameters

    @functools.cached_property
    def _seer(self) -> tuple[Oracle, Any] | None:
        """The oracle and its parameters, if a pooling asks for one."""
        if not any(ORACLE in reading.module.needs for reading in self.readings):
            return None
        if self.oracle is None:
            raise InputError("the pooling 'oracle' needs another encoder; set config.readings.oracle to its path")
        config, own = self.oracle.encoder_config, self.model.encoder_config
        if (config.image_size, config.grid) != (own.image_size, own.grid):
            raise InputError(
                f"the oracle sees images of {config.image_size} in {config.grid} patches, the encoder "
                f"{own.image_size} in {own.grid}; adapt one to the other"
            )
        tree = self.oracle.parameters["encoder"]
        return Oracle(make_encoder(config, self.placed.computation), config), jax.device_put(
            tree, state_shardings(tree, self.mesh)
        )

    def read(
        self, parameters: Trees, images: UInt8[Array, "b h w c"], dropout_key: PRNGKeyArray | None = None
    ) -> dict[str, FrozenTokens]:
        """The tokens of every source from uint8 images."""
        own, (tree, oracle_tree) = self.model.preprocessing, parameters
        extra = None
        if oracle_tree is not None:
            assert self._seer is not None and self.oracle is not None  # whose parameters these are
            theirs = self.oracle.preprocessing
            extra = {ORACLE: self._seer[0].attention(oracle_tree, normalise(images, theirs.mean, theirs.std))}
        return self.frozen.tokens(tree, normalise(images, own.mean, own.std), extra, dropout_key)

    @property
    def all_parameters(self) -> Trees:
        """Parameters of the encoder, and of the oracle or None."""
        return self.parameters, self._seer[1] if self._seer else None

    @functools.cached_property
    def token_shapes(self) -> Any:
        """Shapes of the tokens of one image, by source."""
        config = self.model.encoder_config
        image = jax.ShapeDtypeStruct((1, *config.image_size, config.channels), np.uint8)
        return jax.eval_shape(self.read, self.all_parameters, image)

    @functools.cached_property
    def _split(self) -> tuple[Callable[[Any], Any], frozenset[Reading]]:
        return split_inputs(self.readings, self.token_shapes)

    @property
    def fixed(self) -> frozenset[Reading]:
        """Readings whose poolings have nothing to train."""
        return self._split[1]

    @functools.cached_property
    def encode(self) -> Callable[..., dict[str, Any]]:
        """Compiled: uint8 images (and a key for stochastic depth) to the inputs of probes."""
        split = self._split[0]

        @functools.partial(jax.jit, in_shardings=(None, batch_sharding(self.mesh), None))
        def encode(
            parameters: Trees, images: UInt8[Array, "b h w c"], dropout_key: PRNGKeyArray | None
        ) -> dict[str, Any]:
            return split(self.read(parameters, images, dropout_key))

        return lambda images, dropout_key=None: encode(self.all_parameters, images, dropout_key)

    @functools.cached_property
    def input_shapes(self) -> Any:
        """Shapes of the inputs of one image."""
        return jax.eval_shape(self._split[0], self.token_shapes)

    @property
    def training_transform(self) -> Transform:
        """What training images go through."""
        size = self.model.preprocessing.image_size
        data = self.settings.data
        return training_transform(data, size) if self.settings.trained.augment else evaluation_transform(data, size)

    def evaluation_batches(self, source: Source) -> Iterator[dict[str, Any]]:
        """Every image once, in order, in its evaluation crop: `inputs`, `label`, `valid`, on the devices."""
        for batch in self.placed.batches(source):
            yield {"inputs": self.encode(batch["image"]), "label": batch["label"], "valid": batch["valid"]}

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides features: weights, readings, preprocessing, crop."""
        others = [self.oracle] if self._seer and self.oracle else []
        return self.placed.fingerprint(*others, readings=[str(reading) for reading in self.readings])
