"""What of a frozen encoder is read: a layer, a pooling, with or without the final norm."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from mim_jax.errors import InputError
from mim_jax.models.applying import apply, encode
from mim_jax.models.build import AnyEncoderConfig, Parameters
from mim_jax.models.layers import LayerNorm
from mim_jax.ops.attention import Observer
from mim_jax.probing.pooling import make_pooling
from mim_jax.probing.pooling.frozen import FrozenTokens, Pooling
from mim_jax.probing.pooling.observing import make_observer

ORACLE = "oracle_attention"
"""Name of the observation that comes from another encoder."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """One way to read an encoder.

    Attributes:
        layer: number of the block whose output is read, counted from 1 through all stages; 0 for embedded patches.
        pooling: how its tokens become one vector, as `make_pooling` reads it, such as "mean" or "abmilp(depth=2)".
        final_norm: whether the encoder's final norm is applied to the tokens first.
    """

    layer: int
    pooling: str = "mean"
    final_norm: bool = False

    def __str__(self) -> str:
        return f"block {self.layer}, {self.pooling}" + (", final norm" if self.final_norm else "")

    @property
    def source(self) -> str:
        """Name of the tokens that it reads, which other readings may share."""
        return f"{self.layer}{'n' if self.final_norm else ''}"

    @property
    def module(self) -> Pooling:
        """The pooling."""
        return make_pooling(self.pooling)


def check_readings(readings: Iterable[Reading], config: AnyEncoderConfig) -> None:
    """Raises InputError for a reading that the encoder cannot serve."""
    depth = sum(config.depths)
    for reading in readings:
        if not 0 <= reading.layer <= depth:
            raise InputError(f"there is no block {reading.layer}; this encoder has blocks 1 to {depth}")
        if reading.final_norm and not config.final_norm:
            raise InputError("this encoder has no final norm; set final_norm to False")
        if reading.final_norm and len(config.depths) > 1 and reading.layer <= depth - config.depths[-1]:
            raise InputError(f"the final norm does not fit block {reading.layer}, which is not of the last stage")
        if reading.module.needs and len(config.depths) > 1:
            raise InputError(f"the pooling '{reading.pooling}' reads global attention, which windows do not have")


def is_fixed(reading: Reading, tokens: FrozenTokens) -> bool:
    """Whether a pooling has nothing to train, so that its vectors can be computed once and kept."""
    shapes = jax.eval_shape(reading.module.init, jax.random.key(0), tokens)
    return not jax.tree.leaves(shapes)


@dataclasses.dataclass(frozen=True)
class FrozenEncoder:
    """Images to what the readings of one encoder read, in one forward pass.

    Attributes:
        encoder: the module.
        config: its configuration.
        readings: what is read.
    """

    encoder: nn.Module
    config: AnyEncoderConfig
    readings: tuple[Reading, ...]

    def __post_init__(self) -> None:
        check_readings(self.readings, self.config)

    def tokens(
        self,
        parameters: Parameters,
        images: Float[Array, "b h w c"],
        extra: dict[str, Array] | None = None,
        dropout_key: PRNGKeyArray | None = None,
    ) -> dict[str, FrozenTokens]:
        """The tokens of every source; `extra` observations (of an oracle) are handed to all.

        `dropout_key` switches stochastic depth on, as an original did by mistake.
        """
        layers = tuple(sorted({reading.layer for reading in self.readings}))
        out = encode(self.encoder, parameters, images, taps=layers, observer=self._observer, dropout_key=dropout_key)
        taps, found = dict(zip(layers, out.taps)), {}
        for reading in self.readings:
            tap, seen = taps[reading.layer], dict(extra or {})
            if out.observations is not None and reading.layer > 0:
                seen |= {name: stack[reading.layer - 1] for name, stack in out.observations.items()}
            tokens = tap.tokens
            if reading.final_norm:
                tokens = apply(LayerNorm(self.config.norm_epsilon), parameters["norm"], tokens)
            found[reading.source] = FrozenTokens(tokens, tap.grid, tap.prefix, seen)
        return jax.lax.stop_gradient(found)

    @property
    def _observer(self) -> Observer | None:
        needs = {name for reading in self.readings for name in reading.module.needs}
        if not needs - {ORACLE}:
            return None
        return make_observer(tuple(sorted(needs)), self.config.grid, self.config.prefix)

    def shapes(self, parameters: Parameters, extra: dict[str, Any] | None = None) -> dict[str, FrozenTokens]:
        """Shapes of the tokens of one image."""
        images = jax.ShapeDtypeStruct((1, *self.config.image_size, self.config.channels), jax.numpy.float32)
        return jax.eval_shape(self.tokens, parameters, images, extra)


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Another encoder, whose attention tells a pooling where to look.

    Attributes:
        encoder: its module.
        config: its configuration.
    """

    encoder: nn.Module
    config: AnyEncoderConfig

    def __post_init__(self) -> None:
        if len(self.config.depths) > 1 or self.config.prefix < 1:
            raise InputError(
                "an oracle needs a class token and global attention; choose a Vision Transformer with both"
            )

    def attention(self, parameters: Parameters, images: Float[Array, "b h w c"]) -> Float[Array, "b k n"]:
        """What the class token of the last block sees of every patch, by head."""
        observer = make_observer(("class_attention",), self.config.grid, self.config.prefix)
        out = encode(self.encoder, parameters, images, observer=observer)
        return out.observations["class_attention"][-1][..., self.config.prefix :]


def split_inputs(
    readings: tuple[Reading, ...], shapes: dict[str, FrozenTokens]
) -> tuple[Callable[[dict[str, FrozenTokens]], dict[str, Any]], frozenset[Reading]]:
    """A function from tokens to the inputs of probes, and which readings are pooled by it already.

    Poolings without parameters are computed at once, so that only a vector an image is kept; the tokens of a source are
    kept where a trainable pooling reads them.
    """
    fixed = frozenset(reading for reading in readings if is_fixed(reading, shapes[reading.source]))
    kept = {reading.source for reading in readings if reading not in fixed}

    def split(tokens: dict[str, FrozenTokens]) -> dict[str, Any]:
        pooled = {
            str(reading): reading.module.apply({}, tokens[reading.source]) for reading in readings if reading in fixed
        }
        return {"pooled": pooled, "tokens": {source: tokens[source] for source in sorted(kept)}}

    return split, fixed
