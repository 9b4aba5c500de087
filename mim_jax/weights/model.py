"""A model with its weights, wherever they came from."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mim_jax.data.preprocessing import Preprocessing, normalise
from mim_jax.errors import InputError
from mim_jax.models.build import AnyEncoderConfig, initial_parameters, make_encoder
from mim_jax.models.encoder import EncoderOutput
from mim_jax.pretraining.objective import Objective
from mim_jax.pretraining.supervised import Supervised

Images = Float[Array, "b h w c"] | Float[np.ndarray, "b h w c"]
Pixels = UInt8[Array, "b h w c"] | UInt8[np.ndarray, "b h w c"]


@dataclasses.dataclass(frozen=True)
class Model:
    """An encoder, what it was trained with where that is known, and the parameters of both.

    Attributes:
        encoder_config: the encoder.
        parameters: `{"encoder": ...}` and, with an objective, what that has besides (`decoder`, `head`, ...), float32
            in per-block form.
        preprocessing: what the encoder expects of its images.
        objective: the method whose parameters these are (MAE, SimMIM, LUT, supervised); None for an encoder alone.
        name: preset that the encoder is, or what is nearest to a name.
        origin: where the weights came from, as plain values.
        notes: sentences for the reader: what was taken for granted, left out or changed.
    """

    encoder_config: AnyEncoderConfig
    parameters: dict[str, Any]
    preprocessing: Preprocessing
    objective: Objective | None = None
    name: str = ""
    origin: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def encoder(self) -> nn.Module:
        """The encoder's module."""
        return make_encoder(self.encoder_config)

    @functools.cached_property
    def _placed(self) -> dict[str, Any]:
        """The parameters on the device."""
        return jax.tree.map(jnp.asarray, self.parameters)

    @functools.cached_property
    def _encode(self) -> Any:
        encode = lambda tree, images, **options: self.encoder.apply({"params": tree}, images, **options)
        return jax.jit(encode, static_argnames=("taps", "observer"))

    def encode(self, images: Images, **options: Any) -> EncoderOutput:
        """Tokens of normalised images; `options` are those of the encoder: `taps`, `observer`, `keep`, `mask`."""
        return self._encode(self._placed["encoder"], jnp.asarray(images), **options)

    def logits(self, images: Images) -> Float[Array, "b t"]:
        """What the classifier says of normalised images; raises InputError for a model without one."""
        if not isinstance(self.objective, Supervised):
            raise InputError("this model has no classifier; train one, or load a file that has a head")
        return jax.jit(self.objective.classifier.apply)({"params": self._placed}, jnp.asarray(images))[0]

    def normalise(self, images: Pixels) -> Float[Array, "b h w c"]:
        """Pixels 0..255, already of the right size, as the encoder expects them."""
        return normalise(jnp.asarray(images), self.preprocessing.mean, self.preprocessing.std)


def parameter_shapes(encoder: AnyEncoderConfig, objective: Objective | None) -> Any:
    """Shapes and types of the parameters of a model, without making any."""
    init = functools.partial(initial_parameters, encoder) if objective is None else objective.init
    shapes = jax.eval_shape(lambda: init(jax.random.key(0)))  # a key made inside needs no device
    return {"encoder": shapes} if objective is None else shapes
