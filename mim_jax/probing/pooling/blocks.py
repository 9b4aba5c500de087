"""Transformer blocks inside poolings, with the distributions that those start from."""

from typing import Literal

import flax.linen as nn
from jaxtyping import Array, Float

from mim_jax.models.layers import LayerNorm
from mim_jax.ops.attention import attention, split_heads
from mim_jax.probing.pooling.absorption import attend, head_shape
from mim_jax.probing.pooling.linear import FeedForward, Linear, Start, residual_start

TORCH_EPSILON = 1e-5
JEPA_DEVIATION = 0.02


class CrossAttention(nn.Module):
    """Attention of a few queries over tokens, without a map behind the heads; keys and values are never computed.

    Attributes:
        heads: number of heads.
        joint: keys and values come from one map, `kv`; otherwise from two, `k` and `v`.
        biases: which maps have one: "all", "query_value" or "none".
        start: how the maps start.
    """

    heads: int
    joint: bool = False
    biases: Literal["all", "query_value", "none"] = "all"
    start: Start = "torch_default"

    @nn.compact
    def __call__(
        self, query: Float[Array, "*b q d"], tokens: Float[Array, "b n d"], values: Float[Array, "b n d"] | None = None
    ) -> tuple[Float[Array, "b q k e"], Float[Array, "b g n"]]:
        """The heads' outputs and the weights; values are linear in `values`, or else in the tokens as keys are."""
        width = tokens.shape[-1]
        projected = self._map("q", self.biases != "none", head_shape(width, self.heads))(query)
        key, value, bias = self._keys_and_values(width)
        return attend(projected, key, value, bias, tokens, values)

    def _keys_and_values(
        self, width: int
    ) -> tuple[Float[Array, "d k e"], Float[Array, "d k e"], Float[Array, "k e"] | None]:
        split, biases = head_shape(width, self.heads), self.biases
        if self.joint:
            kernel, bias = self._map("kv", biases != "none", (2, *split)).parameters(width)
            return kernel[:, 0], kernel[:, 1], None if bias is None else bias[1]
        key, _ = self._map("k", biases == "all", split).parameters(width)
        return key, *self._map("v", biases != "none", split).parameters(width)

    def _map(self, name: str, use_bias: bool, features: tuple[int, ...]) -> Linear:
        return Linear(features, use_bias=use_bias, start=self.start, name=name)


class SelfAttentionBlock(nn.Module):
    """Pre-norm transformer block like that of the encoders; the last map of each branch may start smaller.

    Attributes:
        heads: number of heads.
        qkv_bias: whether queries, keys and values have a bias.
        epsilon: epsilon of the norms.
        start: how the maps start.
        branch_start: how the last map of each branch starts; None for the same.
    """

    heads: int
    qkv_bias: bool = True
    epsilon: float = TORCH_EPSILON
    start: Start = "torch_default"
    branch_start: Start | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Returns the tokens behind the block."""
        heads, width = head_shape(x.shape[-1], self.heads)
        last = self.start if self.branch_start is None else self.branch_start
        qkv = Linear((3, heads, width), use_bias=self.qkv_bias, start=self.start, name="qkv")
        outputs = attention(*split_heads(qkv(LayerNorm(self.epsilon, name="norm1")(x))), scale=width**-0.5)
        x = x + Linear(x.shape[-1:], inputs=2, start=last, name="proj")(outputs.swapaxes(1, 2))
        return x + FeedForward(self.start, last, name="mlp")(LayerNorm(self.epsilon, name="norm2")(x))


class JepaCrossBlock(nn.Module):
    """V-JEPA's cross-attention block: the query is not normed, the tokens are; both branches have a residual.

    Attributes:
        heads: number of heads.
        out_projection: whether a map follows the heads.
        branch_start: how the last map of each branch starts.
    """

    heads: int
    out_projection: bool
    branch_start: float

    @nn.compact
    def __call__(
        self, query: Float[Array, "*b q d"], tokens: Float[Array, "b n d"]
    ) -> tuple[Float[Array, "b q d"], Float[Array, "b g n"]]:
        """The query behind the block `[b q d]`, and the weights of each head."""
        attention = CrossAttention(self.heads, joint=True, start=JEPA_DEVIATION, name="xattn")
        branch, weights = attention(query, LayerNorm(TORCH_EPSILON, name="norm1")(tokens))
        if self.out_projection:
            branch = Linear(tokens.shape[-1:], inputs=2, start=self.branch_start, name="proj")(branch)
        query = query + branch.reshape(*branch.shape[:2], -1)
        normed = LayerNorm(TORCH_EPSILON, name="norm2")(query)
        return query + FeedForward(JEPA_DEVIATION, self.branch_start, name="mlp")(normed), weights


def jepa_block(heads: int, layer: int, name: str) -> SelfAttentionBlock:
    """Block number `layer`, from 1, of a pooler of V-JEPA."""
    last = residual_start(JEPA_DEVIATION, layer)
    return SelfAttentionBlock(heads, epsilon=TORCH_EPSILON, start=JEPA_DEVIATION, branch_start=last, name=name)
