"""Attention of a few queries over many tokens, without keys and values of every token.

A query that meets a linear key, `q . (K x)`, is the query `K^T q` in token space; a weighted sum of linear values,
`sum a (V x + c)`, is `V (sum a x) + c` where the weights sum to one. So the maps move from all tokens to a few vectors:
the same numbers, for 32 queries of ViT-B by a twelfth of the multiplications. A bias of the keys adds the same to all
logits of a query, so it falls away.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from mim_jax.errors import InputError
from mim_jax.ops.attention import softmax
from mim_jax.ops.products import product


def token_weights(queries: Float[Array, "*b g d"], tokens: Float[Array, "b n d"]) -> Float[Array, "b g n"]:
    """Softmax over tokens of the products with query vectors in token space, of one image each or for all."""
    axes = "bgd" if queries.ndim == 3 else "gd"
    return softmax(product(queries, tokens, f"{axes},bnd->bgn"))


def pool_tokens(
    queries: Float[Array, "*b g d"], tokens: Float[Array, "b n d"], values: Float[Array, "b n e"] | None = None
) -> tuple[Float[Array, "b g e"], Float[Array, "b g n"]]:
    """From g query vectors in token space to g pooled vectors, and the weights of the tokens in them.

    `values` are summed in place of `tokens`, where given.
    """
    weights = token_weights(queries, tokens)
    return product(weights, tokens if values is None else values, "bgn,bnd->bgd"), weights


def absorb_keys(queries: Float[Array, "*b k e"], kernel: Float[Array, "d k e"]) -> Float[Array, "*b k d"]:
    """Query vectors in token space of queries that meet keys of this kernel, a head each."""
    return jnp.einsum("...ke,dke->...kd", queries, kernel)


def project_heads(
    pooled: Float[Array, "*b k d"], kernel: Float[Array, "d k e"], bias: Float[Array, "k e"] | None = None
) -> Float[Array, "*b k e"]:
    """Values of this kernel and bias of pooled tokens, a head each."""
    values = jnp.einsum("...kd,dke->...ke", pooled, kernel)
    return values if bias is None else values + bias


def attend(
    query: Float[Array, "*b q k e"],
    key_kernel: Float[Array, "d k e"],
    value_kernel: Float[Array, "d k e"],
    value_bias: Float[Array, "k e"] | None,
    tokens: Float[Array, "b n d"],
    values: Float[Array, "b n d"] | None = None,
) -> tuple[Float[Array, "b q k e"], Float[Array, "b g n"]]:
    """Multi-head attention of q queries, the same for all images or one set for each, over the tokens.

    Keys are linear in `tokens`, values in `values` or else in `tokens` too. The logits are scaled by one over the root
    of the head width. Returns the heads' outputs, and the weights with `g = q k`.
    """
    *batch, queries, heads, width = query.shape
    in_token_space = absorb_keys(query * width**-0.5, key_kernel).reshape(*batch, queries * heads, -1)
    pooled, weights = pool_tokens(in_token_space, tokens, values)
    pooled = pooled.reshape(pooled.shape[0], queries, heads, -1)
    return project_heads(pooled, value_kernel, value_bias), weights


def head_shape(width: int, heads: int) -> tuple[int, int]:
    """Number and width of heads.

    Raises:
        InputError: if the heads do not divide the width.
    """
    if heads < 1 or width % heads:
        raise InputError(f"a pooling of {heads} heads cannot split tokens {width} wide; choose heads that divide it")
    return heads, width // heads


def split_tokens(tokens: Float[Array, "*b d"], heads: int) -> Any:
    """The width of tokens split into heads, `[*b, k, e]`."""
    return tokens.reshape(*tokens.shape[:-1], *head_shape(tokens.shape[-1], heads))
