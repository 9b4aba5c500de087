"""The contract between encoders and everything that uses one."""

from typing import Any, Protocol, runtime_checkable

import flax.struct
from jaxtyping import Array, Float, Int

from mim_jax.ops.attention import Observer

Pair = tuple[int, int]


@flax.struct.dataclass
class EncoderOutput:
    """What every encoder returns.

    Attributes:
        tokens: prefix tokens first, then the patches row-major (or the kept ones in the order asked for), `[b, n, d]`.
        grid: rows and columns of the patch grid of a whole image.
        prefix: number of prefix tokens.
        observations: what the observer returned in every block, stacked over layers; None without an observer.
    """

    tokens: Float[Array, "b n d"]
    grid: Pair = flax.struct.field(pytree_node=False)
    prefix: int = flax.struct.field(pytree_node=False)
    observations: Any = None


@runtime_checkable
class Encoder(Protocol):
    """An encoder module: `apply({"params": ...}, images, ...)` gives an `EncoderOutput`."""

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        *,
        keep: Int[Array, "b m"] | None = None,
        observer: Observer | None = None,
        dropout_key: Any = None,
    ) -> EncoderOutput:
        """Encodes normalised images.

        `keep` names the patches that are encoded at all; `observer` is called in every attention block;
        `dropout_key` switches stochastic depth on.
        """
        ...
