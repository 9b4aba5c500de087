"""Gradients under the bfloat16 policy beside those in float32."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mim_jax.training.trees import map_with_names

STEPS, LEARNING_RATE = 5, 1e-4

LARGEST_ERROR = 0.02

ROUNDINGS = 3
"""So many times the effect of rounding the parameters once may the policy have, which rounds in every layer."""


def pictures(key, *shape):
    """Images `[*shape, 32, 32, 3]` that differ in colour and coarse structure, with some noise, as photographs do."""
    colour, coarse, fine = (
        jax.random.normal(key, (*shape, side, side, 3)) for key, side in zip(jax.random.split(key, 3), (1, 4, 32))
    )
    return 0.8 * colour + 0.6 * jax.image.resize(coarse, fine.shape, "cubic") + 0.2 * fine


class Compared(NamedTuple):
    """Gradients at one place, by name of a parameter.

    Attributes:
        exact: norm of float32's gradient.
        rounded: norm of the policy's.
        errors: norm of the difference between both, over that of float32's.
        sensitivity: the same of float32's gradient where every parameter was rounded to bfloat16 once.
    """

    exact: dict[str, float]
    rounded: dict[str, float]
    errors: dict[str, float]
    sensitivity: dict[str, float]

    def wrong(self, sensitive=False, unseen=()):
        """Errors above two per cent; of a `sensitive` gradient above a multiple of its sensitivity, if that is more."""
        bounds = {name: max(LARGEST_ERROR, ROUNDINGS * sensitive * self.sensitivity[name]) for name in self.errors}
        return {name: e for name, e in self.errors.items() if e > bounds[name] and not name.endswith(tuple(unseen))}


def compare(exact, rounded, parameters):
    """`Compared` at the given parameters, and after some updates by float32's gradient.

    `exact` and `rounded` are compiled functions from parameters to gradients.
    """
    optimizer = optax.adamw(LEARNING_RATE)
    state, compared = optimizer.init(parameters), []
    update = jax.jit(lambda *trees: _updated(optimizer, *trees))
    for step in range(STEPS + 1):
        gradient = exact(parameters)
        if step in (0, STEPS):
            nearby = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), parameters)
            compared.append(_compared(gradient, rounded(parameters), exact(nearby)))
        parameters, state = update(parameters, gradient, state)
    return compared


def _updated(optimizer, parameters, gradient, state):
    updates, state = optimizer.update(gradient, state, parameters)
    return optax.apply_updates(parameters, updates), state


def _compared(exact, rounded, nearby):
    norms = _norms(exact)
    relative = lambda other: {
        name: difference / norms[name] if norms[name] else np.inf if difference else 0.0
        for name, difference in _norms(jax.tree.map(jnp.subtract, exact, other)).items()
    }
    return Compared(norms, _norms(rounded), relative(rounded), relative(nearby))


def _norms(tree):
    norms = {}
    map_with_names(lambda name, leaf: norms.setdefault(name, float(jnp.linalg.norm(leaf))), tree)
    return norms
