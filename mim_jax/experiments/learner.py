"""The state of a run on its mesh: made, advanced, saved, restored."""

import dataclasses
import functools
from typing import Any

import jax
import optax

from mim_jax.data.preprocessing import Preprocessing
from mim_jax.experiments.optimization import Schedule, make_optimizer
from mim_jax.experiments.plan import make_prepare
from mim_jax.experiments.settings import Settings
from mim_jax.models.stacking import stack_blocks, unstack_blocks
from mim_jax.pretraining.objective import Objective
from mim_jax.training.checkpoints import Checkpoints
from mim_jax.training.sharding import AnyMesh, batch_sharding, replicated, state_shardings
from mim_jax.training.state import TrainState, initial_state, make_train_step


@dataclasses.dataclass(frozen=True)
class Learner:
    """What learns, and how.

    On disk the blocks of a model always lie one by one, so that a checkpoint does not depend on whether they are
    scanned.
    """

    settings: Settings
    objective: Objective
    preprocessing: Preprocessing
    schedule: Schedule
    mesh: AnyMesh

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimizer."""
        return make_optimizer(self.settings, self.schedule, self.objective)

    def _create(self) -> TrainState:
        optimization, scan = self.settings.optimization, self.settings.efficiency.scan_blocks
        return initial_state(
            self.objective,
            self.optimizer,
            optimization.seed,
            average=optimization.ema_decay > 0,
            arrange=stack_blocks if scan else lambda parameters: parameters,
        )

    @functools.cached_property
    def shapes(self) -> TrainState:
        """Shapes of the state in training, with their shardings."""
        return _with_shardings(jax.eval_shape(self._create), self.mesh)

    @functools.cached_property
    def shapes_on_disk(self) -> TrainState:
        """Shapes of the state in a checkpoint, with their shardings."""
        return _with_shardings(jax.eval_shape(unstack_blocks, self.shapes), self.mesh)

    @functools.cached_property
    def _initial(self) -> Any:
        return jax.jit(self._create, out_shardings=_shardings(self.shapes))

    def initial(self) -> TrainState:
        """The state before the first update, made where it belongs."""
        return self._initial()

    def make_step(self) -> Any:
        """The compiled update, `(state, batch) -> (state, metrics)`; it consumes the state."""
        step = make_train_step(
            self.objective,
            self.optimizer,
            make_prepare(self.preprocessing),
            self.schedule.learning_rate,
            seed=self.settings.optimization.seed,
            total_steps=self.schedule.total_steps,
            accumulation=self.settings.efficiency.accumulation,
            average_decay=self.settings.optimization.ema_decay,
        )
        shardings = _shardings(self.shapes)
        return jax.jit(
            step,
            in_shardings=(shardings, batch_sharding(self.mesh)),
            out_shardings=(shardings, replicated(self.mesh)),
            donate_argnums=0,
        )

    def save(self, checkpoints: Checkpoints, step: int, state: TrainState, metrics: dict[str, float]) -> None:
        """Writes a checkpoint; returns when the state has been copied."""
        if self.settings.efficiency.scan_blocks:
            state = jax.jit(unstack_blocks, out_shardings=_shardings(self.shapes_on_disk))(state)
        checkpoints.save(step, state, metrics=metrics)

    def restore(self, checkpoints: Checkpoints) -> TrainState:
        """The last checkpoint, or the initial state if there is none."""
        if checkpoints.latest is None:
            return self.initial()
        state = checkpoints.restore(self.shapes_on_disk)
        if self.settings.efficiency.scan_blocks:
            state = jax.jit(stack_blocks, out_shardings=_shardings(self.shapes))(state)
        return state


def _with_shardings(shapes: TrainState, mesh: AnyMesh) -> TrainState:
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        state_shardings(shapes, mesh),
    )


def _shardings(shapes: TrainState) -> TrainState:
    return jax.tree.map(lambda leaf: leaf.sharding, shapes)
