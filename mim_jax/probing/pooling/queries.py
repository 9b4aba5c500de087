"""Poolings by learned queries that meet linear keys and values and nothing else."""

import flax.linen as nn
from jaxtyping import Array, Float

from mim_jax.errors import InputError
from mim_jax.pretraining.heads import BatchNorm
from mim_jax.probing.pooling.absorption import attend, head_shape, pool_tokens, project_heads, split_tokens
from mim_jax.probing.pooling.attentive import Queried, chosen_tokens
from mim_jax.probing.pooling.frozen import FrozenTokens, Pooling
from mim_jax.probing.pooling.linear import Linear

QUERY_DEVIATION = 0.02
TOKEN_NORM_EPSILON = 1e-6


class EfficientProbing(Queried):
    """Efficient probing (Psomas et al. 2026): every query meets the tokens themselves and takes a slice of the values.

    The slices, one behind the other, are the feature; its width is that of the tokens over `d_out`.

    Attributes:
        queries: number of queries; one where the class token is the query.
        d_out: how many times narrower the feature is than a token.
    """

    queries: int = 32
    d_out: int = 1

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> tuple[Float[Array, "b e"], Float[Array, "b k n"]]:
        """The feature, and the weights of each query."""
        tokens = chosen_tokens(frozen, self.content)
        width = tokens.shape[-1]
        queries = self._queries(frozen, QUERY_DEVIATION, self.queries)
        kernel, _ = Linear(self._slices(width), use_bias=False, name="v").parameters(width)
        pooled, weights = pool_tokens(queries * width**-0.5, tokens)
        return project_heads(pooled, kernel).reshape(pooled.shape[0], -1), weights

    def _slices(self, width: int) -> tuple[int, int]:
        if self.query == "class_token" and self.queries != 1:
            raise InputError(f"the class token is one query, not {self.queries}; set queries=1 or query=learned")
        if width % self.d_out or width // self.d_out % self.queries:
            raise InputError(
                f"efficient probing cannot cut a width of {width} over d_out={self.d_out} into {self.queries} slices; "
                "choose queries that divide it"
            )
        return self.queries, width // self.d_out // self.queries


class Aim(Queried):
    """AIM's attentive probe (El-Nouby et al. 2024): batch norm of the tokens, keys and values of it, raw queries.

    Attributes:
        heads: heads of the attention.
        queries: number of queries, over which the outputs are averaged.
    """

    heads: int = 12
    queries: int = 1

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> tuple[Float[Array, "b d"], Float[Array, "b k n"]]:
        """The feature, and the weights of each head (of each query)."""
        norm = BatchNorm(epsilon=TOKEN_NORM_EPSILON, affine=False, name="norm")
        tokens = norm(chosen_tokens(frozen, self.content), training)
        width = tokens.shape[-1]
        query = split_tokens(self._queries(frozen, QUERY_DEVIATION, self.queries), self.heads)
        split = head_shape(width, self.heads)
        key, value = (Linear(split, use_bias=False, name=name).parameters(width)[0] for name in ("k", "v"))
        outputs, weights = attend(query, key, value, None, tokens)
        return outputs.mean(axis=1).reshape(-1, width), weights


class Capi(Queried):
    """CAPI's attentive probe (Darcet et al. 2025): one raw query, keys and values from one map, no map behind.

    Attributes:
        head_width: width of a head.
    """

    head_width: int = 64

    @nn.compact
    def attend(self, frozen: FrozenTokens, training: bool = False) -> tuple[Float[Array, "b d"], Float[Array, "b k n"]]:
        """The feature, and the weights of each head."""
        tokens = chosen_tokens(frozen, self.content)
        width = tokens.shape[-1]
        if width % self.head_width:
            raise InputError(f"heads {self.head_width} wide do not divide tokens {width} wide; set head_width")
        heads = width // self.head_width
        query = split_tokens(self._queries(frozen, QUERY_DEVIATION), heads)
        kernel, bias = Linear((2, heads, self.head_width), start=QUERY_DEVIATION, name="kv").parameters(width)
        outputs, weights = attend(query, kernel[:, 0], kernel[:, 1], bias[1], tokens)
        return outputs.reshape(-1, width), weights


POOLINGS: dict[str, type[Pooling]] = {"ep": EfficientProbing, "aim": Aim, "capi": Capi}
