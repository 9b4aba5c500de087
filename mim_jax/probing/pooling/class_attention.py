"""Poolings by class attention, by a whole block, and by the mean token as the query: CaiT, DinoViT, SimPool."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.models.layers import LayerNorm
from mim_jax.ops.attention import softmax
from mim_jax.ops.products import product
from mim_jax.probing.pooling.absorption import absorb_keys, split_tokens, token_weights
from mim_jax.probing.pooling.attentive import (
    Attentive,
    Content,
    MeanSource,
    Queried,
    chosen_tokens,
    mean_or_class_token,
)
from mim_jax.probing.pooling.blocks import TORCH_EPSILON, CrossAttention, SelfAttentionBlock
from mim_jax.probing.pooling.frozen import FrozenTokens, Pooling
from mim_jax.probing.pooling.linear import FeedForward, Linear

EPSILON = 1e-6
CLASS_DEVIATION = 0.02

Attended = tuple[Float[Array, "b d"], Float[Array, "b k n"]]


class ClassAttentionBlock(nn.Module):
    """CaiT's class attention: a token attends to itself and to the others, which stay as they are.

    Attributes:
        heads: heads of the attention.
        layer_scale: what the factors on both branches start with.
    """

    heads: int
    layer_scale: float

    @nn.compact
    def __call__(self, token: Float[Array, "b 1 d"], tokens: Float[Array, "b n d"]) -> tuple[Array, Array]:
        """The token behind the block `[b 1 d]`, and the weights of each head `[b k 1+n]`."""
        width = tokens.shape[-1:]
        gamma_1, gamma_2 = (
            self.param(name, nn.initializers.constant(self.layer_scale), width) for name in ("gamma_1", "gamma_2")
        )
        normed = LayerNorm(EPSILON, name="norm1")(jnp.concatenate([token, tokens], axis=1))
        outputs, weights = CrossAttention(self.heads, name="attn")(normed[:, :1], normed)
        token = token + gamma_1 * Linear(width, inputs=2, name="proj")(outputs)
        return token + gamma_2 * FeedForward(name="mlp")(LayerNorm(EPSILON, name="norm2")(token)), weights


class CaiT(Queried):
    """Class-attention blocks on a token of their own (Touvron et al. 2021), and a norm.

    Attributes:
        heads: heads of the attention.
        blocks: number of blocks.
        layer_scale: what the factors on the branches start with.
    """

    heads: int = 4
    blocks: int = 1
    layer_scale: float = 1e-5

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> Attended:
        """The feature, and the weights of each head in the last block, that of the query's own token first."""
        tokens, weights = chosen_tokens(frozen, self.content), jnp.zeros(0)
        token = jnp.broadcast_to(self._queries(frozen, CLASS_DEVIATION), (tokens.shape[0], 1, tokens.shape[-1]))
        for layer in range(self.blocks):
            token, weights = ClassAttentionBlock(self.heads, self.layer_scale, name=f"block{layer}")(token, tokens)
        return LayerNorm(TORCH_EPSILON, name="norm")(token)[:, 0], weights


class DinoViT(Pooling):
    """One transformer block over the tokens, then their mean.

    Attributes:
        heads: heads of the attention.
        content: tokens that are pooled: "patch", or "all" with the prefix tokens in front.
    """

    heads: int = 8
    content: Content = "patch"

    @nn.compact
    def __call__(self, frozen: FrozenTokens, training: bool = False) -> Float[Array, "b d"]:
        """Mean of the block's tokens."""
        block = SelfAttentionBlock(self.heads, qkv_bias=False, epsilon=TORCH_EPSILON, name="block")
        return block(chosen_tokens(frozen, self.content)).mean(axis=1)


class SimPool(Attentive):
    """SimPool (Psomas et al. 2023): the mean token attends to normed tokens, which are the values as they are.

    Attributes:
        query: "mean" of the tokens, or "class_token".
        gamma: exponent of a power mean `(sum a v^gamma)^(1/gamma)` in place of the weighted mean; 0 for none. The
            values are moved above zero by the least of the image. The original takes the least of the batch, so that a
            feature depends on the images beside it.
    """

    query: MeanSource = "mean"
    gamma: float = 0.0

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> Attended:
        """The feature, and the weights of the one head."""
        tokens = chosen_tokens(frozen, self.content)
        width = tokens.shape[-1]
        normed = LayerNorm(EPSILON, name="norm_patches")(tokens)
        query = Linear((1, width), use_bias=False, name="wq")(mean_or_class_token(frozen, self.query, tokens)[:, 0])
        kernel, _ = Linear((1, width), use_bias=False, name="wk").parameters(width)
        weights = token_weights(absorb_keys(query * width**-0.5, kernel), normed)
        return power_mean(weights, normed, self.gamma), weights


class SimPoolWithoutMaps(Attentive):
    """SimPool without linear maps ("e-SimPool"): query and keys are normed by one norm, the values are raw.

    Attributes:
        query: "mean" of the tokens, or "class_token".
        heads: heads of the attention.
        gamma: exponent of a power mean as of `SimPool`; 0 for none.
    """

    query: MeanSource = "mean"
    heads: int = 12
    gamma: float = 0.0

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> Attended:
        """The feature, and the weights of each head."""
        tokens, norm = chosen_tokens(frozen, self.content), LayerNorm(EPSILON, name="norm_patches")
        query = split_tokens(norm(mean_or_class_token(frozen, self.query, tokens)[:, 0]), self.heads)
        keys = split_tokens(norm(tokens), self.heads)
        weights = softmax(product(query, keys, "bke,bnke->bkn") * query.shape[-1] ** -0.5)
        return power_mean(weights, tokens, self.gamma), weights


def power_mean(
    weights: Float[Array, "b k n"], values: Float[Array, "b n d"], gamma: float = 0.0
) -> Float[Array, "b d"]:
    """Weighted mean of every head's part of the values; with a `gamma` their power mean, above their least."""
    if gamma:
        least = values.min(axis=(1, 2), keepdims=True)
        return power_mean(weights, (values - least + EPSILON) ** gamma) ** (1 / gamma)
    parts = split_tokens(values, weights.shape[1])
    return product(weights, parts, "bkn,bnke->bke").reshape(values.shape[0], -1)


POOLINGS: dict[str, type[Pooling]] = {
    "cait": CaiT,
    "dinovit": DinoViT,
    "simpool": SimPool,
    "esimpool": SimPoolWithoutMaps,
}
