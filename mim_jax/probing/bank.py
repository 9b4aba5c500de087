"""Many probes on one frozen encoder, trained together: every reading with every learning rate and weight decay."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from mim_jax.models.build import Parameters
from mim_jax.pretraining.heads import STATISTICS, Statistics
from mim_jax.probing.head import ProbeHead
from mim_jax.probing.optimizers import initial_states, update_stacked
from mim_jax.probing.pooling.frozen import Pooling
from mim_jax.probing.reading import Reading
from mim_jax.training.state import TrainState

Inputs = Mapping[str, Any]
"""`{"pooled": {reading: [b, e]}, "tokens": {source: FrozenTokens}}`."""


@dataclasses.dataclass(frozen=True)
class HeadOptions:
    """What stands behind every pooling.

    Attributes:
        num_classes: number of classes.
        batch_norm: a batch norm without affine parameters in front of the linear layer (MAE's probe).
        start: how the linear layer starts, a name of `head.CLASSIFIERS`.
        groups: parts of the batch that are normalised each by itself.
    """

    num_classes: int
    batch_norm: bool = True
    start: str = "torch_default"
    groups: int = 1


class Probe(nn.Module):
    """A pooling (None where the input is pooled already) and a classifier."""

    pooling: Pooling | None
    options: HeadOptions

    @nn.compact
    def __call__(self, inputs: Any, training: bool = False) -> Float[Array, "b t"]:
        """Logits from `FrozenTokens`, or from vectors `[b, e]` that are pooled already."""
        features = inputs if self.pooling is None else self.pooling(inputs, training)
        head = ProbeHead(
            self.options.num_classes,
            batch_norm=self.options.batch_norm,
            start=self.options.start,
            groups=self.options.groups,
            name="head",
        )
        return head(features, training)


@dataclasses.dataclass(frozen=True)
class ProbeBank:
    """All probes of an encoder.

    Attributes:
        readings: what is read.
        fixed: readings whose pooling has no parameters, and whose inputs are vectors.
        learning_rates: peak learning rate of every probe of a reading, `g` of them.
        weight_decays: their weight decays.
        optimizer: a name of `optimizers.OPTIMIZERS`.
        schedule: factor on all learning rates by step.
        options: what stands behind every pooling.
    """

    readings: tuple[Reading, ...]
    fixed: frozenset[Reading]
    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    optimizer: str
    schedule: optax.Schedule
    options: HeadOptions

    @property
    def width(self) -> int:
        """Number of probes of every reading."""
        return len(self.learning_rates)

    def probe(self, reading: Reading) -> Probe:
        """The module of a reading's probes."""
        return Probe(None if reading in self.fixed else reading.module, self.options)

    def inputs_of(self, reading: Reading, inputs: Inputs) -> Any:
        """What the probes of a reading are given."""
        return inputs["pooled"][str(reading)] if reading in self.fixed else inputs["tokens"][reading.source]

    def initial_state(self, seed: int, shapes: Inputs) -> TrainState:
        """The state before the first update; `shapes` are those of inputs."""
        parameters, statistics = {}, {}
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        for number, reading in enumerate(self.readings):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), self.width)
            init = jax.vmap(self.probe(reading).init, in_axes=(0, None))
            variables = init(keys, self.inputs_of(reading, zeros))
            parameters[str(reading)] = variables["params"]
            statistics[str(reading)] = variables.get(STATISTICS, {})
        states = {name: initial_states(self.optimizer, tree) for name, tree in parameters.items()}
        return TrainState(jnp.zeros((), jnp.int32), parameters, states, statistics)

    def logits(
        self, reading: Reading, parameters: Parameters, statistics: Statistics, inputs: Inputs, training: bool
    ) -> tuple[Float[Array, "g b t"], Statistics]:
        """Logits of all probes of a reading, and their running statistics behind."""
        probe, given = self.probe(reading), self.inputs_of(reading, inputs)

        def one(parameters: Parameters, statistics: Statistics) -> tuple[Any, Statistics]:
            variables = {"params": parameters, STATISTICS: statistics}
            if not training:
                return probe.apply(variables, given), statistics
            logits, changed = probe.apply(variables, given, True, mutable=[STATISTICS])
            return logits, changed.get(STATISTICS, {})

        return jax.vmap(one)(parameters, statistics)

    def step(self, state: TrainState, inputs: Inputs, labels: Int[Array, "b"]) -> tuple[TrainState, dict[str, Array]]:
        """One update of every probe; what diverges is its own affair."""
        parameters, statistics, states, losses = {}, {}, {}, []
        rate = self.schedule(state.step)
        for reading in self.readings:
            name = str(reading)

            def total(tree: Parameters, reading: Reading = reading, name: str = name) -> tuple[Array, Any]:
                logits, changed = self.logits(reading, tree, state.memory[name], inputs, True)
                each = optax.softmax_cross_entropy_with_integer_labels(logits, labels[None]).mean(axis=1)
                return each.sum(), (each, changed)

            gradients, (each, statistics[name]) = jax.grad(total, has_aux=True)(state.parameters[name])
            parameters[name], states[name] = update_stacked(
                self.optimizer,
                gradients,
                state.optimizer[name],
                state.parameters[name],
                jnp.asarray(rate) * jnp.asarray(self.learning_rates),
                jnp.asarray(self.weight_decays),
            )
            losses.append(each)
        return TrainState(state.step + 1, parameters, states, statistics), _metrics(jnp.stack(losses), rate)

    def correct(
        self, state: TrainState, inputs: Inputs, labels: Int[Array, "b"], valid: Bool[Array, "b"]
    ) -> dict[str, Int[Array, "g"]]:
        """Number of valid images that every probe of every reading gets right."""
        found = {}
        for reading in self.readings:
            name = str(reading)
            logits, _ = self.logits(reading, state.parameters[name], state.memory[name], inputs, False)
            right = (logits.argmax(axis=-1) == labels[None]) & valid[None] & jnp.isfinite(logits).all(axis=-1)
            found[name] = right.sum(axis=1)
        return found

    def parameter_counts(self, state: TrainState) -> dict[str, int]:
        """Trainable numbers of one probe of every reading."""
        return {
            name: sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(tree))
            for name, tree in state.parameters.items()
        }


def _metrics(losses: Float[Array, "r g"], rate: ArrayLike) -> dict[str, Array]:
    """Mean and smallest loss of the probes that are finite, and how many are not."""
    finite = jnp.isfinite(losses)
    count = jnp.maximum(finite.sum(), 1)
    return {
        "loss": jnp.where(finite, losses, 0).sum() / count,
        "best_loss": jnp.where(finite, losses, jnp.inf).min(),
        "diverged": (~finite).sum().astype(jnp.float32),
        "rate": jnp.asarray(rate, jnp.float32),
    }
