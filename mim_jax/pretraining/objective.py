"""The contract between an objective and the training loop."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float

Batch = dict[str, Any]
Parameters = dict[str, Any]
Metrics = dict[str, Float[Array, ""]]


@runtime_checkable
class Objective(Protocol):
    """What the training loop knows of a method. All functions are pure and can be jitted.

    `encoder` is the module of the encoder and `parameters["encoder"]` belongs to it. A batch holds normalised `image`
    `[b, h, w, c]` and whatever `draw` adds to it.
    """

    @property
    def encoder(self) -> Any:
        """The encoder's Flax module, an `Encoder`."""
        ...

    def init(self, key: Any) -> Parameters:
        """Fresh parameters, in per-block form whatever the computation."""
        ...

    def draw(self, batch: Batch, key: Any) -> Batch:
        """Adds what is random per image, unless the caller gave it; it then follows the image into its micro-batch."""
        ...

    def loss(self, parameters: Parameters, batch: Batch, key: Any) -> tuple[Float[Array, ""], Metrics]:
        """Scalar loss, a mean over the images of the batch, and metrics that are means likewise."""
        ...

    @property
    def panel_titles(self) -> tuple[str, ...]:
        """What each column of a panel shows."""
        ...

    def panel(self, parameters: Parameters, batch: Batch) -> Float[Array, "b t h w c"]:
        """Pictures of what the objective does, a row for each image, in the space of the (normalised) input."""
        ...

    def flops_per_image(self) -> int:
        """Analytic FLOPs of a training step (forward and backward) per image."""
        ...

    def activation_bytes_per_image(self) -> int:
        """Estimate of the bytes that the backward pass needs saved per image."""
        ...
