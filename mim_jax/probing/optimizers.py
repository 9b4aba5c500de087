"""Optimizers of probes; many probes are updated at once, each with its own learning rate and weight decay."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from mim_jax.models.build import Parameters
from mim_jax.training.optimizers import VECTORS
from mim_jax.training.trees import Tree, first_match, map_with_names

Rate = Float[Array, ""] | float

State = tuple[Any, ...]
"""That of a chain of transformations of optax."""

_MATRICES = ((rf"{VECTORS}|(^|/)(norm|power)$", False), (r"", True))


def _matrices(parameters: Tree) -> Tree:
    """True for what has two axes or more in torch; by name, since heads are an axis of their own here."""
    return map_with_names(lambda name, _: first_match(_MATRICES, name), parameters)


def lars(weight_decay: Rate, *, momentum: float = 0.9, trust_coefficient: float = 1e-3) -> optax.GradientTransformation:
    """LARS (You et al. 2017) as in the linear probes of MAE and MoCo: the rate is outside of the momentum.

    Vectors (biases, scales) get neither decay nor trust ratio. The updates still lack the factor `-learning_rate`.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay, _matrices),
        optax.masked(optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient), _matrices),
        optax.trace(momentum),
    )


def sgd(weight_decay: Rate, *, momentum: float = 0.9) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum as torch's; the updates lack the factor `-learning_rate`."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.trace(momentum))


def adamw(weight_decay: Rate, *, betas: tuple[float, float] = (0.9, 0.999)) -> optax.GradientTransformation:
    """AdamW, vectors without decay; the updates lack the factor `-learning_rate`."""
    return optax.chain(optax.scale_by_adam(*betas), optax.add_decayed_weights(weight_decay, _matrices))


OPTIMIZERS: dict[str, Callable[[Rate], optax.GradientTransformation]] = {"lars": lars, "sgd": sgd, "adamw": adamw}
"""Name to optimizer, as a function of the weight decay."""


def initial_states(name: str, parameters: Parameters) -> State:
    """States for probes that are stacked along a leading axis."""
    states: Any = jax.vmap(OPTIMIZERS[name](0.0).init)(parameters)
    return states


def update_stacked(
    name: str,
    gradients: Parameters,
    states: State,
    parameters: Parameters,
    learning_rates: Float[Array, "g"],
    weight_decays: Float[Array, "g"],
) -> tuple[Parameters, State]:
    """Parameters and states of stacked probes after one update, each with its own rate and decay."""

    def update(
        gradient: Parameters, state: State, tree: Parameters, rate: Float[Array, ""], decay: Float[Array, ""]
    ) -> tuple[Parameters, Any]:
        changes, after = OPTIMIZERS[name](decay).update(gradient, state, tree)
        return jax.tree.map(lambda leaf, change: leaf - rate * change, tree, changes), after

    return jax.vmap(update)(gradients, states, parameters, jnp.asarray(learning_rates), jnp.asarray(weight_decays))
