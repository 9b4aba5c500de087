"""Poolings that weigh places of the map without a softmax: CBAM, DOLG."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.models.initialization import kernel_initializer
from mim_jax.pretraining.heads import BatchNorm
from mim_jax.probing.pooling.attentive import LearnedWeights
from mim_jax.probing.pooling.frozen import FrozenTokens, Pooling
from mim_jax.probing.pooling.linear import Linear

SHORTEST = 1e-12  # a vector is divided by its length or by this, whichever is more

Attended = tuple[Float[Array, "b d"], Float[Array, "b 1 n"]]


class Cbam(LearnedWeights):
    """A gate on channels, then one on places, with a residual; mean of what is above zero (CBAM, Woo et al. 2018).

    Attributes:
        reduction: how many times narrower the channel gate is inside.
        window: side of the spatial gate's convolution, in places.
    """

    reduction: int = 16
    window: int = 7

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> Attended:
        """The feature, and the spatial gate."""
        x = frozen.map.astype(jnp.float32)
        gated = x * self._channel_gate(x)
        places = self._spatial_gate(gated, training)
        pooled = nn.relu(gated * places + x).mean(axis=(1, 2))
        return pooled, places.reshape(x.shape[0], 1, -1)

    def _channel_gate(self, x: Float[Array, "b y x d"]) -> Float[Array, "b 1 1 d"]:
        """From mean and maximum over places, by the same two maps."""
        width = x.shape[-1]
        summaries = jnp.stack([x.mean(axis=(1, 2)), x.max(axis=(1, 2))], axis=1)
        hidden = Linear((max(round(width / self.reduction), 1),), use_bias=False, name="fc1")(summaries)
        logits = Linear((width,), use_bias=False, name="fc2")(nn.relu(hidden)).sum(axis=1)
        return nn.sigmoid(logits)[:, None, None]

    def _spatial_gate(self, x: Float[Array, "b y x d"], training: bool) -> Float[Array, "b y x 1"]:
        """From mean and maximum over channels, by a convolution."""
        summaries = jnp.stack([x.mean(axis=-1), x.max(axis=-1)], axis=-1)
        window, start = (self.window, self.window), kernel_initializer("torch_default", 3)
        logits = nn.Conv(1, window, use_bias=False, kernel_init=start, name="conv")(summaries)
        return nn.sigmoid(BatchNorm(name="norm")(logits, training))


class Dolg(LearnedWeights):
    """Mean of features of length one, weighed by a score above zero (the local branch of DOLG, Yang et al. 2021)."""

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> Attended:
        """The feature, and the scores; they do not sum to one."""
        features = Linear(frozen.tokens.shape[-1:], name="conv1")(frozen.patches)
        features = BatchNorm(name="norm")(features, training)
        scores = nn.softplus(Linear((1,), name="conv2")(nn.relu(features)))
        squares = jnp.square(features).sum(axis=-1, keepdims=True)
        unit = features * jax.lax.rsqrt(jnp.maximum(squares, SHORTEST**2))
        return (scores * unit).mean(axis=1), scores.swapaxes(1, 2)


POOLINGS: dict[str, type[Pooling]] = {"cbam": Cbam, "dolg": Dolg}
