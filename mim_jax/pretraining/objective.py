"""The contract between an objective and the training loop."""

from typing import Any, NamedTuple, Protocol

from jaxtyping import Array, Float, UInt8

import numpy as np

Batch = dict[str, Any]
Parameters = dict[str, Any]
Metrics = dict[str, Float[Array, ""]]


class Panel(NamedTuple):
    """One picture of what an objective does: rows of images under titles.

    Attributes:
        titles: what each column shows.
        images: `[row, column, h, w, c]`, float images in the normalised space of the input.
    """

    titles: tuple[str, ...]
    images: Float[np.ndarray, "r t h w c"]


class Objective(Protocol):
    """What the training loop knows of a method. All functions are pure and can be jitted.

    A batch holds normalised `image` `[b, h, w, c]` and whatever `draw` adds to it.
    """

    def init(self, key: Any) -> Parameters:
        """Fresh parameters, in per-block form whatever the computation."""
        ...

    def draw(self, batch: Batch, key: Any) -> Batch:
        """Adds what is random per image, unless the caller gave it; it then follows the image into its micro-batch."""
        ...

    def loss(self, parameters: Parameters, batch: Batch, key: Any) -> tuple[Float[Array, ""], Metrics]:
        """Scalar loss, a mean over the images of the batch, and metrics that are means likewise."""
        ...

    def panel(self, parameters: Parameters, batch: Batch) -> Panel:
        """Pictures for the first images of a batch."""
        ...

    def flops_per_image(self) -> int:
        """Analytic FLOPs of a training step (forward and backward) per image."""
        ...
