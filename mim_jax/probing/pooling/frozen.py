"""What a pooling is given, and what every pooling is."""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.errors import InputError
from mim_jax.models.encoder import Tokens


@flax.struct.dataclass
class FrozenTokens(Tokens):
    """Tokens of a frozen encoder as poolings read them; from which block, normed or not, is the caller's choice.

    Attributes:
        tokens: prefix tokens first, then all patches row-major, `[b, n, d]`, of any float type.
        grid: rows and columns of patches.
        prefix: number of prefix tokens.
        observations: what poolings asked for in `needs` besides the tokens, by name; see `observing.py`.
    """

    # Not annotated as arrays: as a tree it also holds shapes.
    tokens: Any
    observations: dict[str, Any] = flax.struct.field(default_factory=dict)

    @property
    def patches(self) -> Float[Array, "b m d"]:
        """The tokens without the prefix, in float32."""
        return self.tokens[:, self.prefix :].astype(jnp.float32)

    @property
    def class_token(self) -> Float[Array, "b d"]:
        """The first of the prefix tokens, in float32.

        Raises:
            InputError: if the encoder has no prefix token.
        """
        if self.prefix < 1:
            raise InputError("this encoder has no class token; take a pooling of patches, like 'mean'")
        return self.tokens[:, 0].astype(jnp.float32)

    def observation(self, name: str) -> Array:
        """One of the observations.

        Raises:
            InputError: if it was not recorded.
        """
        if name not in self.observations:
            given = ", ".join(sorted(self.observations)) or "none"
            raise InputError(
                f"the observation '{name}' is missing (given: {given}); record it with make_observer, or give it with "
                "the tokens if it is that of another encoder"
            )
        return self.observations[name]


def fields_of(pooling: "Pooling | Callable[..., Pooling]") -> tuple[dataclasses.Field[Any], ...]:
    """The fields of a pooling or of a class of them: Flax makes dataclasses of modules, unseen by type checkers."""
    return dataclasses.fields(pooling)  # ty: ignore[invalid-argument-type]


class Pooling(nn.Module):
    """From the tokens of an image to one feature: `[b n d]` to `[b e]`, computed in float32.

    The options of a pooling are its fields. A field annotated as a `Literal` takes only what stands there.

    Raises:
        InputError: if a field has a value that it cannot take.
    """

    def __post_init__(self) -> None:
        for option in fields_of(self):
            if typing.get_origin(option.type) is Literal:
                check_choice(option.name, getattr(self, option.name), typing.get_args(option.type))
        super().__post_init__()

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the observations that it reads."""
        return ()

    def __call__(self, frozen: FrozenTokens, training: bool = False) -> Float[Array, "b e"]:
        """One feature per image; `training` updates running statistics where a pooling has any."""
        raise NotImplementedError


def check_choice(option: str, value: object, choices: tuple[object, ...]) -> None:
    """Raises InputError if an option of a pooling is none of its choices."""
    if value not in choices:
        raise InputError(f"the pooling option {option} must be one of {', '.join(map(str, choices))}, not '{value}'")
