"""A model with its weights, wherever they came from."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mim_jax.data.preprocessing import Preprocessing, normalise
from mim_jax.errors import InputError
from mim_jax.models.build import AnyEncoderConfig, initial_parameters, make_encoder
from mim_jax.models.describing import encoder_in_words
from mim_jax.models.encoder import EncoderOutput
from mim_jax.ops.showing import shortened
from mim_jax.pretraining.objective import Objective
from mim_jax.pretraining.supervised import Supervised

Parameters = dict[str, Any]

MOST_NOTES = 4
"""Notes that are shown of a model."""


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

    @functools.cached_property
    def _classify(self) -> Callable[[Parameters, Array], Float[Array, "b t"]]:
        if not isinstance(self.objective, Supervised):
            raise InputError("this model has no classifier; train one, or load a file that has a head")
        classifier = self.objective.classifier
        return jax.jit(lambda tree, images: classifier.apply({"params": tree}, images)[0])

    def encode(self, images: ArrayLike, **options: Any) -> EncoderOutput:
        """Tokens of normalised images `[b, h, w, c]`.

        `options` are those of the encoder: `taps`, `observer`, `keep`, `mask`. Raises InputError for pixels
        that are not normalised, and for images of another shape.
        """
        return self._encode(self._placed["encoder"], self._checked(images), **options)

    def logits(self, images: ArrayLike) -> Float[Array, "b t"]:
        """What the classifier says of normalised images; raises InputError where `encode` does, or if there is none."""
        return self._classify(self._placed, self._checked(images))

    def normalise(self, images: ArrayLike) -> Float[Array, "b h w c"]:
        """Pixels 0..255, uint8 `[b, h, w, c]` already of the right size, as the encoder expects them.

        Raises InputError for other types, and where channels are not last.
        """
        pixels = _as_array(images)
        self.preprocessing.check_pixels(pixels)
        return normalise(jnp.asarray(pixels), self.preprocessing.mean, self.preprocessing.std)

    def _checked(self, images: ArrayLike) -> Float[Array, "b h w c"]:
        normalised = _as_array(images)
        self.preprocessing.check_normalised(normalised)
        return jnp.asarray(normalised)

    def __repr__(self) -> str:
        return "\n  ".join([self._title(), *self._facts()])

    def _title(self) -> str:
        leaves = jax.tree.leaves(self.parameters)
        count = sum(math.prod(leaf.shape) for leaf in leaves)
        return f"Model{f' {self.name!r}' if self.name else ''} of {count:,} parameters"

    def _facts(self) -> Iterator[str]:
        objective, given = self.objective, self.preprocessing
        yield f"encoder: {encoder_in_words(self.encoder_config)}"
        yield f"objective: {type(objective).__name__ if objective is not None else 'none, an encoder alone'}"
        yield f"preprocessing: pixels from 0 to 1, less {_numbers(given.mean)}, over {_numbers(given.std)}"
        origin = [f"{key} {self.origin[key]}" for key in ("layout", "files", "step") if key in self.origin]
        if origin:
            yield f"origin: {', '.join(origin)}"
        yield from (f"note: {shortened(note)}" for note in self.notes[:MOST_NOTES])
        if len(self.notes) > MOST_NOTES:
            yield f"and {len(self.notes) - MOST_NOTES} more notes"


def _as_array(images: object) -> Array | np.ndarray:
    return images if isinstance(images, jax.Array) else np.asarray(images)


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def parameter_shapes(encoder: AnyEncoderConfig, objective: Objective | None) -> Any:
    """Shapes and types of the parameters of a model, without making any."""
    init = functools.partial(initial_parameters, encoder) if objective is None else objective.init
    shapes = jax.eval_shape(lambda: init(jax.random.key(0)))  # a key made inside needs no device
    return {"encoder": shapes} if objective is None else shapes
