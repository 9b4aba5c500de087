"""What poolings by weights over tokens have in common."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.errors import InputError
from mim_jax.probing.pooling.frozen import FrozenTokens, Pooling, fields_of
from mim_jax.probing.pooling.linear import Start, kernel_start

Content = Literal["patch", "all"]
QuerySource = Literal["learned", "class_token"]
MeanSource = Literal["mean", "class_token"]


class LearnedWeights(Pooling):
    """A pooling whose weights of places are learned, and that shows them.

    Raises:
        InputError: if an option that counts something is below 1.
    """

    def __post_init__(self) -> None:
        for option in fields_of(self):
            if option.type is int and getattr(self, option.name) < 1:
                value = getattr(self, option.name)
                raise InputError(f"the pooling option {option.name} must be 1 or more, not {value}")
        super().__post_init__()

    def __call__(self, frozen: FrozenTokens, training: bool = False) -> Float[Array, "b e"]:
        """One feature per image; `training` updates running statistics where a pooling has any."""
        return self.attend(frozen, training)[0]

    def weights(self, frozen: FrozenTokens) -> Float[Array, "b k m"]:
        """How much every head takes of each patch, for pictures; what it takes of other tokens is left out."""
        patches = frozen.grid[0] * frozen.grid[1]
        return self.attend(frozen)[1][..., -patches:]

    def attend(self, frozen: FrozenTokens, training: bool = False) -> tuple[Float[Array, "b e"], Float[Array, "b k n"]]:
        """The feature, and the weights of the tokens, patches last."""
        raise NotImplementedError


class Attentive(LearnedWeights):
    """A pooling that weighs tokens.

    Attributes:
        content: tokens that are pooled: "patch", or "all" with the prefix tokens in front.
    """

    content: Content = "patch"


class Queried(Attentive):
    """A pooling that weighs tokens by a query.

    Attributes:
        query: "learned", or "class_token" for that of the image in place of a learned one.
    """

    query: QuerySource = "learned"

    def _queries(self, frozen: FrozenTokens, start: Start, count: int = 1) -> Float[Array, "*b q d"]:
        """The learned queries `[q d]`, or one for each image `[b 1 d]`."""
        if self.query == "class_token":
            return frozen.class_token[:, None]
        return self.param("query", kernel_start(start, 0), (count, frozen.tokens.shape[-1]))


def chosen_tokens(frozen: FrozenTokens, content: str) -> Float[Array, "b n d"]:
    """The patches, or with "all" every token, in float32."""
    return frozen.tokens.astype(jnp.float32) if content == "all" else frozen.patches


def mean_or_class_token(frozen: FrozenTokens, source: str, tokens: Float[Array, "b n d"]) -> Float[Array, "b 1 d"]:
    """The mean of `tokens`, or the class token of the image."""
    return frozen.class_token[:, None] if source == "class_token" else tokens.mean(axis=1, keepdims=True)
