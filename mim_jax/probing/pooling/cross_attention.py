"""Poolings by cross-attention of one query with the maps around it: CAE, V-JEPA, SigLIP, CLIP, CoCa."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.models.layers import LayerNorm
from mim_jax.ops.normalization import layer_norm
from mim_jax.ops.products import affine
from mim_jax.probing.pooling.absorption import attend, head_shape
from mim_jax.probing.pooling.attentive import Attentive, MeanSource, Queried, chosen_tokens, mean_or_class_token
from mim_jax.probing.pooling.blocks import (
    JEPA_DEVIATION,
    TORCH_EPSILON,
    CrossAttention,
    JepaCrossBlock,
    jepa_block,
)
from mim_jax.probing.pooling.frozen import FrozenTokens, Pooling
from mim_jax.probing.pooling.linear import FeedForward, Linear, residual_start

CLIP_EPSILON = 1e-6

Attended = tuple[Float[Array, "b d"], Float[Array, "b k n"]]


class Cae(Queried):
    """CAE's attentive probe (Chen et al. 2022): norms of their own on query, keys and values; no residual, no MLP.

    The defaults are those of the probing benchmark; the original has 12 heads, `query_value_bias`, an epsilon of 1e-6
    and `content=all`.

    Attributes:
        heads: heads of the attention.
        query_value_bias: whether the maps of query and values have a bias.
        epsilon: epsilon of the norms.
    """

    heads: int = 8
    query_value_bias: bool = False
    epsilon: float = TORCH_EPSILON

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> Attended:
        """The feature, and the weights of each head."""
        tokens = chosen_tokens(frozen, self.content)
        norms = {name: LayerNorm(self.epsilon, name=f"norm1_{name}") for name in "qkv"}
        query = norms["q"](self._queries(frozen, 0.0))
        biases = "query_value" if self.query_value_bias else "none"
        attention = CrossAttention(self.heads, biases=biases, name="cross_attn")
        outputs, weights = attention(query, norms["k"](tokens), norms["v"](tokens))
        return Linear(tokens.shape[-1:], inputs=2, name="proj")(outputs)[:, 0], weights


class VJepa(Queried):
    """V-JEPA's attentive pooler (Bardes et al. 2024): a cross-attention block, then blocks on the query alone.

    Attributes:
        heads: heads of the attention.
        depth: number of blocks.
        out_projection: maps the heads' outputs. The original makes this map and never applies it, so it is not made
            here; the copy in the probing benchmark applies it.
    """

    heads: int = 12
    depth: int = 1
    out_projection: bool = False

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> Attended:
        """The feature, and the weights of each head."""
        tokens, query = chosen_tokens(frozen, self.content), self._queries(frozen, JEPA_DEVIATION)
        cross = JepaCrossBlock(self.heads, self.out_projection, residual_start(JEPA_DEVIATION, 1), name="cross")
        query, weights = cross(query, tokens)
        for layer in range(1, self.depth):
            query = jepa_block(self.heads, layer + 1, f"block{layer}")(query)
        return query[:, 0], weights


class VJepa2(Queried):
    """V-JEPA 2's attentive pooler (Assran et al. 2025): blocks over the tokens, then a cross-attention block.

    Attributes:
        heads: heads of the attention.
        blocks: blocks over the tokens.
        out_projection: maps the heads' outputs of the cross-attention; the original has no such map.
    """

    heads: int = 16
    blocks: int = 3
    out_projection: bool = False

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> Attended:
        """The feature, and the weights of each head in the cross-attention."""
        tokens, query = chosen_tokens(frozen, self.content), self._queries(frozen, JEPA_DEVIATION)
        for layer in range(self.blocks):
            tokens = jepa_block(self.heads, layer + 1, f"block{layer}")(tokens)
        last = residual_start(JEPA_DEVIATION, self.blocks)
        query, weights = JepaCrossBlock(self.heads, self.out_projection, last, name="cross")(query, tokens)
        return query[:, 0], weights


class SigLip(Queried):
    """SigLIP's attention pooling (Zhai et al. 2023): cross-attention without residual, then an MLP without norm.

    Attributes:
        heads: heads of the attention.
    """

    heads: int = 8

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> Attended:
        """The feature, and the weights of each head."""
        tokens = chosen_tokens(frozen, self.content)
        width = tokens.shape[-1]
        query = self._queries(frozen, width**-0.5)
        outputs, weights = CrossAttention(self.heads, joint=True, name="attention")(query, tokens)
        x = Linear((width,), inputs=2, name="proj")(outputs)
        return (x + FeedForward(name="mlp")(x))[:, 0], weights


class Clip(Attentive):
    """CLIP's attention pooling (Radford et al. 2021): the mean token attends, after positions are added.

    The tokens are normed; a class token in place of their mean is not.

    Attributes:
        heads: heads of the attention.
        query: "mean" of the normed tokens, or "class_token".
    """

    heads: int = 4
    query: MeanSource = "mean"

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> Attended:
        """The feature, and the weights of each head, that of the query's own token first."""
        normed = LayerNorm(CLIP_EPSILON, name="norm")(chosen_tokens(frozen, self.content))
        width, deviation = normed.shape[-1], normed.shape[-1] ** -0.5
        tokens = jnp.concatenate([mean_or_class_token(frozen, self.query, normed), normed], axis=1)
        tokens = tokens + self.param("pos_embed", nn.initializers.normal(deviation), tokens.shape[1:])
        split = (3, *head_shape(width, self.heads))
        kernel, bias = Linear(split, start=deviation, name="qkv").parameters(width)
        query = affine(tokens[:, :1], kernel[:, 0], bias[0])
        outputs, weights = attend(query, kernel[:, 1], kernel[:, 2], bias[2], tokens)
        return Linear((width,), inputs=2, name="proj")(outputs)[:, 0], weights


class CoCa(Queried):
    """CoCa's attention pooling (Yu et al. 2022): all heads of the query share one head of keys and values.

    Only the first query's output is the feature, as in the copies of it; the others are there and have no gradient.

    Attributes:
        heads: heads of the query.
        head_width: width of each.
        queries: number of learned queries.
    """

    heads: int = 8
    head_width: int = 64
    queries: int = 196

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> Attended:
        """The feature, and the weights of each head."""
        tokens = chosen_tokens(frozen, self.content)
        width, heads = tokens.shape[-1], (self.heads, self.head_width)
        first = self._queries(frozen, 1.0, self.queries)[..., :1, :]
        scale = self.param("norm", nn.initializers.ones, (width,))
        query = Linear(heads, use_bias=False, name="to_q")(
            layer_norm(first, scale, jnp.zeros_like(scale), TORCH_EPSILON)
        )
        kernel, _ = Linear((2, self.head_width), use_bias=False, name="to_kv").parameters(width)
        key, value = (jnp.broadcast_to(kernel[:, i, None], (width, *heads)) for i in (0, 1))
        outputs, weights = attend(query, key, value, None, tokens)
        return Linear((width,), inputs=2, use_bias=False, name="to_out")(outputs)[:, 0], weights


POOLINGS: dict[str, type[Pooling]] = {
    "cae": Cae,
    "vjepa": VJepa,
    "vjepa2": VJepa2,
    "siglip": SigLip,
    "clip": Clip,
    "coca": CoCa,
}
