"""Learning rates per step."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def linear_scaling(base: float, batch_size: int, reference: int = 256) -> float:
    """Peak learning rate by the linear rule (Goyal et al. 2017): `base * batch_size / reference`."""
    return base * batch_size / reference


def warmup_half_cosine(peak: float, *, warmup_steps: int, total_steps: int, final: float = 0.0) -> optax.Schedule:
    """MAE's schedule: linear from 0 to `peak`, then half a cosine down to `final`.

    Step 0 is the first update, which has a rate of 0 when there is a warm-up. The cosine is written as a squared sine
    of the steps that remain, so that float32 stays exact at the end, where `1 + cos` would cancel.
    """
    decay_steps = max(total_steps - warmup_steps, 1)

    def schedule(step: Int[Array, ""] | int) -> Float[Array, ""]:
        remaining = jnp.clip(total_steps - jnp.asarray(step), 0, decay_steps) / decay_steps
        cosine = final + (peak - final) * jnp.sin(jnp.pi / 2 * remaining) ** 2
        warmup = peak * jnp.asarray(step) / max(warmup_steps, 1)
        return jnp.where(step < warmup_steps, warmup, cosine)

    return schedule
