"""Learning rates per step."""

import dataclasses
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

Rate = Float[Array | np.ndarray, "..."] | float

Decay = Callable[[Int[Array, ""], Rate], Rate]
"""A shape of decay: (step, base rate) to the rate at that step."""


def linear_scaling(base: float, batch_size: int, reference: int = 256) -> float:
    """Peak learning rate by the linear rule (Goyal et al. 2017): `base * batch_size / reference`."""
    return base * batch_size / reference


def square_root_scaling(base: float, batch_size: int, divisor: float = 4.0) -> float:
    """Peak learning rate by LUT's square-root rule: `base * sqrt(batch_size) / divisor` (8 in its fine-tuning)."""
    return base * batch_size**0.5 / divisor


def warmup_half_cosine(peak: float, *, warmup_steps: int, total_steps: int, final: float = 0.0) -> optax.Schedule:
    """MAE's schedule: linear from 0 to `peak`, then half a cosine down to `final`.

    Step 0 is the first update, which has a rate of 0 when there is a warm-up. The cosine is written as a squared sine
    of the steps that remain, so that float32 stays exact at the end, where `1 + cos` would cancel.
    """
    decay_steps = max(total_steps - warmup_steps, 1)

    def schedule(step: ArrayLike) -> Float[Array, ""]:
        step = jnp.asarray(step)
        remaining = jnp.clip(total_steps - step, 0, decay_steps) / decay_steps
        cosine = final + (peak - final) * jnp.sin(jnp.pi / 2 * remaining) ** 2
        warmup = peak * step / max(warmup_steps, 1)
        return jnp.where(step < warmup_steps, warmup, cosine)

    return schedule


@dataclasses.dataclass(frozen=True)
class GroupSchedule:
    """The schedules of SimMIM and Swin: a linear warm-up, then a decay, for groups of parameters.

    A group's `scale` (layer-wise decay) multiplies the base rate alone: where the warm-up starts and where the decay
    ends is the same for all groups. So a group whose base lies below the end rises.

    Attributes:
        base: learning rate at the end of the warm-up, of scale 1.
        decay: what follows the warm-up; one of the `..._decay` below.
        warmup_steps: updates of the warm-up.
        warmup_rate: learning rate at step 0 of the warm-up.
        delayed: the original's scheduler moves after the optimizer: update k has the rate of step `max(k - 1, 0)`.
    """

    base: float
    decay: Decay
    warmup_steps: int = 0
    warmup_rate: float = 0.0
    delayed: bool = False

    def __call__(self, step: ArrayLike, scale: Rate = 1.0) -> Float[Array, "..."]:
        """Learning rate of update `step`, counted from 0, for a group or (an array) groups of this scale."""
        step = jnp.maximum(jnp.asarray(step) - self.delayed, 0)
        base = self.base * scale
        warmup = self.warmup_rate + (base - self.warmup_rate) * (step / max(self.warmup_steps, 1))
        return jnp.where(step < self.warmup_steps, warmup, self.decay(step, base))


def cosine_decay(total_steps: int, *, final: float = 0.0, start: int = 0) -> Decay:
    """Half a cosine from step `start` down to `final` at `total_steps`, kept thereafter.

    SimMIM starts it at 0, so that the rate drops where the warm-up ends; Swin's warm-up prefix starts it there.
    """
    decay_steps = max(total_steps - start, 1)

    def decay(step: Int[Array, ""], base: Rate) -> Rate:
        remaining = jnp.clip(total_steps - step, 0, decay_steps) / decay_steps
        return final + (base - final) * jnp.sin(jnp.pi / 2 * remaining) ** 2

    return decay


def multistep_decay(milestones: Sequence[int], *, factor: float = 0.1) -> Decay:
    """Multiplied by `factor` at every milestone, a step counted from the start of the warm-up."""

    def decay(step: Int[Array, ""], base: Rate) -> Rate:
        passed = (step >= jnp.asarray(milestones, jnp.int32)).sum()
        return base * jnp.asarray(factor, jnp.float32) ** passed

    return decay


def step_decay(decay_steps: int, *, factor: float = 0.1) -> Decay:
    """Multiplied by `factor` every `decay_steps`, counted from the start of the warm-up."""
    return lambda step, base: base * jnp.asarray(factor, jnp.float32) ** (step // decay_steps)


def linear_decay(total_steps: int, *, start: int = 0, final_fraction: float = 0.01) -> Decay:
    """A line from the base at step `start` to `final_fraction` of it at `total_steps`; it goes on falling (SimMIM)."""
    decay_steps = max(total_steps - start, 1)

    def decay(step: Int[Array, ""], base: Rate) -> Rate:
        share = final_fraction * decay_steps + (1 - final_fraction) * (total_steps - step)
        return base * share / decay_steps

    return decay
