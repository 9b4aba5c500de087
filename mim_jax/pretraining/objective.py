"""The contract between an objective and the training loop."""

import dataclasses
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from mim_jax.models.build import AnyEncoderConfig, Parameters

Batch = dict[str, Any]
Memory = dict[str, Any]
Metrics = dict[str, Float[Array, ""]]


class Outcome(NamedTuple):
    """What comes with a loss.

    Attributes:
        metrics: scalars that are means over the images of the batch.
        memory: the objective's memory after this batch.
    """

    metrics: Metrics
    memory: Memory


@runtime_checkable
class Objective(Protocol):
    """What the training loop knows of a method, a frozen dataclass. All functions are pure and can be jitted.

    `encoder` is the module of the encoder, `encoder_config` its configuration, `parameters["encoder"]` belong to it. A
    batch holds normalised `image` `[b, h, w, c]` (or several views of each, `[b, v, h, w, c]`), perhaps `label` `[b]`,
    and whatever `draw` adds to it. The memory is what changes without a gradient: running statistics, a teacher.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def encoder(self) -> nn.Module:
        """The encoder's Flax module, an `Encoder`."""
        ...

    @property
    def encoder_config(self) -> AnyEncoderConfig:
        """The encoder's configuration, an `EncoderConfig`."""
        ...

    def init(self, key: PRNGKeyArray) -> Parameters:
        """Fresh parameters, in per-block form whatever the computation."""
        ...

    def init_memory(self, parameters: Parameters) -> Memory:
        """The memory before the first update; empty for most objectives."""
        ...

    def draw(self, batch: Batch, key: PRNGKeyArray) -> Batch:
        """Adds what is random per image, unless the caller gave it; it then follows the image into its micro-batch."""
        ...

    def loss(
        self, parameters: Parameters, batch: Batch, key: PRNGKeyArray | None = None, memory: Memory | None = None
    ) -> tuple[Float[Array, ""], Outcome]:
        """Scalar loss, a mean over the images of the batch, with metrics that are means likewise, and the new memory.

        Without a key there is no stochastic depth.
        """
        ...

    def remember(self, memory: Memory, parameters: Parameters, progress: ArrayLike) -> Memory:
        """The memory after an update to these parameters, at a `progress` from 0 to 1 through training."""
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


class Memoryless:
    """The part of the contract of an objective that remembers nothing but its parameters."""

    def init_memory(self, parameters: Parameters) -> Memory:
        """An empty memory."""
        return {}

    def remember(self, memory: Memory, parameters: Parameters, progress: ArrayLike) -> Memory:
        """The empty memory again."""
        return memory
