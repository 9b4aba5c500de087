"""Attention-based multiple-instance pooling (AbMILP; Ilse et al. 2018, Przewiezlikowski et al. 2025)."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.models.attention import Attention, AttentionConfig
from mim_jax.ops.positions import sincos_position_table
from mim_jax.probing.pooling.absorption import pool_tokens
from mim_jax.probing.pooling.attentive import Attentive, chosen_tokens
from mim_jax.probing.pooling.frozen import FrozenTokens, Pooling
from mim_jax.probing.pooling.linear import Linear

ACTIVATIONS = {"relu": nn.relu, "tanh": jnp.tanh}


class AbMilp(Attentive):
    """Weighted mean of the tokens; a small network scores each token, a softmax makes weights of the scores.

    The defaults are the published recipe, one linear map of a patch to its score. The original's command line says
    `activation=tanh, self_attention=both, depth=2, content=all` where nothing is given.

    Attributes:
        activation: between the layers of the scores' network.
        self_attention: "none", or one head of self-attention without residual whose tokens serve the scores ("map"), or
            the scores and the mean ("both").
        depth: linear maps of the scores' network.
        condition: "pe" adds sine-cosine positions to what the scores see.
        trainable_positions: the positions are trained, as by accident in the original.
    """

    activation: Literal["relu", "tanh"] = "relu"
    self_attention: Literal["none", "map", "both"] = "none"
    depth: int = 1
    condition: Literal["none", "pe"] = "none"
    trainable_positions: bool = False

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> tuple[Float[Array, "b d"], Float[Array, "b 1 n"]]:
        """Weighted mean and weights. The last bias moves all scores alike: it is there, and has no gradient."""
        tokens = chosen_tokens(frozen, self.content)
        mixed = tokens if self.self_attention == "none" else self._mix(tokens)
        hidden = mixed + self._positions(frozen, tokens.shape[-1]) if self.condition == "pe" else mixed
        for layer in range(self.depth - 1):
            hidden = ACTIVATIONS[self.activation](Linear(hidden.shape[-1:], name=f"layer{layer}")(hidden))
        kernel, _ = Linear((1,), name=f"layer{self.depth - 1}").parameters(hidden.shape[-1])
        pooled, weights = pool_tokens(kernel.T, hidden, mixed if self.self_attention == "both" else tokens)
        return pooled[:, 0], weights

    def _mix(self, tokens: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        config = AttentionConfig(num_heads=1, qkv_bias="none", kernel_init="torch_default")
        return Attention(config, name="self_attn")(tokens)[0]

    def _positions(self, frozen: FrozenTokens, width: int) -> Float[Array, "n d"]:
        """MAE's table, with rows of zeros for prefix tokens."""
        prefix = frozen.prefix if self.content == "all" else 0
        table = jnp.asarray(sincos_position_table(frozen.grid, width, prefix), jnp.float32)
        return self.param("pos_embed", lambda key: table) if self.trainable_positions else table


POOLINGS: dict[str, type[Pooling]] = {"abmilp": AbMilp}
