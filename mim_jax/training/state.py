"""The state of a training run and the step that advances it."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PRNGKeyArray

from mim_jax.ops.showing import shown
from mim_jax.pretraining.objective import Batch, Memory, Metrics, Objective, Outcome, Parameters

Sums = tuple[Parameters, Metrics]


@flax.struct.dataclass
class TrainState:
    """Everything that changes during training; its leaves may also be shapes or shardings.

    Attributes:
        step: number of updates made, an int32 scalar.
        parameters: the objective's parameters, float32.
        optimizer: the optimizer's state.
        memory: what the objective remembers beside its parameters (running statistics, a teacher).
        average: exponential moving average of the parameters, or None.
    """

    step: Any
    parameters: Any
    optimizer: Any
    memory: Any = flax.struct.field(default_factory=dict)
    average: Any = None

    def __repr__(self) -> str:
        return shown(self)


def initial_state(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    seed: int,
    *,
    average: bool = False,
    arrange: Callable[[Any], Any] = lambda parameters: parameters,
) -> TrainState:
    """The state before the first update; a pure function of the seed.

    `average` keeps a moving average of the parameters; `arrange` brings them into the form that is trained (stacked).
    """
    parameters = arrange(objective.init(jax.random.key(seed)))
    copy = jax.tree.map(jnp.copy, parameters) if average else None
    memory = objective.init_memory(parameters)
    return TrainState(jnp.zeros((), jnp.int32), parameters, optimizer.init(parameters), memory, copy)


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    prepare: Callable[[Batch], Batch],
    schedule: optax.Schedule,
    *,
    seed: int,
    total_steps: int = 1,
    accumulation: int = 1,
    average_decay: float = 0.0,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The function that makes one update: `(state, batch) -> (state, metrics)`.

    `prepare` turns a host batch into the objective's (normalises images); `schedule` is only reported. All randomness
    is a function of seed and step. `total_steps` tells the objective how far training is. With `accumulation` the batch
    is processed in that many micro-batches, one after the other.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        draw_key, loss_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))
        batch = objective.draw(prepare(batch), draw_key)
        gradients, (metrics, memory) = _mean_gradients(
            objective, state.parameters, batch, loss_key, state.memory, accumulation
        )
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.parameters)
        parameters: Any = optax.apply_updates(state.parameters, updates)
        # Counted in micro-batches: the update follows the last one of its batch.
        progress = (state.step + (accumulation - 1) / accumulation) / total_steps
        memory = objective.remember(memory, parameters, progress)
        average = state.average
        if average is not None:
            average = optax.incremental_update(parameters, average, 1 - average_decay)
        metrics = metrics | {"gradient_norm": optax.tree.norm(gradients)}
        metrics["learning_rate"] = jnp.asarray(schedule(state.step))
        return TrainState(state.step + 1, parameters, optimizer_state, memory, average), metrics

    return train_step


def _mean_gradients(
    objective: Objective,
    parameters: Parameters,
    batch: Batch,
    key: PRNGKeyArray,
    memory: Memory,
    accumulation: int,
) -> tuple[Parameters, Outcome]:
    gradient_function = jax.grad(objective.loss, has_aux=True)
    if accumulation == 1:
        return gradient_function(parameters, batch, key, memory)

    def accumulate(carry: tuple[Sums, Memory], micro: tuple[Batch, PRNGKeyArray]) -> tuple[tuple[Sums, Memory], None]:
        sums, memory = carry
        gradients, outcome = gradient_function(parameters, *micro, memory)
        return (jax.tree.map(jnp.add, sums, (gradients, outcome.metrics)), outcome.memory), None

    # The micro-batch takes every k-th image, so that each device keeps the images that it holds.
    micro_batches = jax.tree.map(lambda x: x.reshape(-1, accumulation, *x.shape[1:]).swapaxes(0, 1), batch)
    keys = jax.random.split(key, accumulation)
    first = jax.tree.map(lambda x: x[0], micro_batches)
    gradients, outcome = jax.eval_shape(gradient_function, parameters, first, key, memory)
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), (gradients, outcome.metrics))
    (sums, memory), _ = jax.lax.scan(accumulate, (zeros, memory), (micro_batches, keys))
    gradients, metrics = jax.tree.map(lambda total: total / accumulation, sums)
    return gradients, Outcome(metrics, memory)
