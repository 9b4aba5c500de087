"""The contract between encoders and everything that uses one."""

from typing import Any, Protocol, runtime_checkable

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mim_jax.ops.attention import Observer
from mim_jax.ops.showing import shown

Pair = tuple[int, int]


@flax.struct.dataclass
class Tokens:
    """Tokens somewhere in an encoder.

    Attributes:
        tokens: prefix tokens first, then the patches row-major (or the kept ones in the order asked for), `[b, n, d]`.
        grid: rows and columns of the patch grid of a whole image.
        prefix: number of prefix tokens.
    """

    tokens: Float[Array | np.ndarray, "b n d"]
    grid: Pair = flax.struct.field(pytree_node=False)
    prefix: int = flax.struct.field(pytree_node=False)

    def __repr__(self) -> str:
        return shown(self)

    @property
    def patches(self) -> Float[Array, "b m d"]:
        """The tokens without the prefix."""
        return jnp.asarray(self.tokens)[:, self.prefix :]

    @property
    def map(self) -> Float[Array, "b y x d"]:
        """The patch tokens as a feature map; all patches must be there."""
        return self.patches.reshape(self.tokens.shape[0], *self.grid, -1)


@flax.struct.dataclass
class EncoderOutput(Tokens):
    """What every encoder returns: its last tokens, and what was asked for on the way.

    Attributes:
        observations: what the observer returned in every block, stacked over layers, or a tuple of such stacks, one a
            stage, of an encoder with stages; None without an observer.
        taps: the tokens behind the blocks that were asked for, in that order, before any final norm.
    """

    observations: Any = None
    taps: tuple[Tokens, ...] = ()

    def __repr__(self) -> str:
        return shown(self)


@runtime_checkable
class Encoder(Protocol):
    """An encoder module: `apply({"params": ...}, images, ...)` gives an `EncoderOutput`."""

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        *,
        keep: Int[Array, "b m"] | None = None,
        mask: Float[Array, "b n"] | None = None,
        observer: Observer | None = None,
        dropout_key: PRNGKeyArray | None = None,
        taps: tuple[int, ...] = (),
    ) -> EncoderOutput:
        """Encodes normalised images.

        `keep` names the patches that are encoded at all; where `mask` is 1 the mask token stands in for the embedded
        patch; `observer` is called in every attention block; `dropout_key` switches stochastic depth on; tap i asks
        for the output of block i, counted from 1 through all stages, 0 for the embedded patches.
        """
        ...


@runtime_checkable
class EncoderConfig(Protocol):
    """What the objectives and the experiments know of an encoder's configuration, a frozen dataclass."""

    @property
    def image_size(self) -> Pair:
        """Height and width in pixels."""
        ...

    @property
    def patch_size(self) -> Pair:
        """Height and width of a patch in pixels."""
        ...

    @property
    def channels(self) -> int:
        """Channels of an image."""
        ...

    @property
    def mask_token(self) -> bool:
        """Whether there is a token that stands in for masked patches."""
        ...

    @property
    def norm_epsilon(self) -> float:
        """Epsilon of the norms."""
        ...

    @property
    def grid(self) -> Pair:
        """Rows and columns of patches as they are embedded."""
        ...

    @property
    def output_width(self) -> int:
        """Width of the last tokens."""
        ...

    @property
    def output_stride(self) -> Pair:
        """Pixels from one of the last tokens to the next, vertically and horizontally."""
        ...

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks in every stage; one number for an encoder without stages."""
        ...

    @property
    def prefix(self) -> int:
        """Number of prefix tokens."""
        ...


def check_input(config: EncoderConfig, images: Float[Array, "b h w c"], mask: Float[Array, "b n"] | None) -> None:
    """Raises ValueError if images have another size than the encoder, or are masked and it has no mask token."""
    (height, width), (rows, columns) = images.shape[1:3], config.image_size
    if (height, width) != (rows, columns):
        raise ValueError(f"images are {height}x{width}, but the encoder is made for {rows}x{columns}; set image_size")
    if mask is not None and not config.mask_token:
        raise ValueError("a mask needs a token to stand in for masked patches; set mask_token")
