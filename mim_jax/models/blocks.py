"""A stack of transformer blocks: unrolled or scanned, rematerialised or not."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mim_jax.models.layers import Block
from mim_jax.ops.attention import Observer

REMAT_POLICIES = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.checkpoint_dots,
    "dots_no_batch": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
}
"""What the backward pass finds saved: everything, nothing, all products, products without a batch axis (weights')."""

_STACKED = "stacked"


@dataclasses.dataclass(frozen=True)
class Computation:
    """How a model is computed; never what it computes.

    Attributes:
        dtype: type of the computation, "float32" or "bfloat16".
        remat: a name of `REMAT_POLICIES`.
        scan_blocks: compile one block and scan over the stacked parameters of all.
    """

    dtype: str = "float32"
    remat: str = "none"
    scan_blocks: bool = False


def saved_bytes(tokens: int, width: int, depth: int, num_heads: int, mlp_ratio: float, computation: Computation) -> int:
    """Estimate of the bytes that a stack of blocks saves per image for its backward pass.

    Without rematerialisation a block saves, per token, its input, two normed inputs, query, key and value, the
    heads' output, the residual in between, the hidden layer before and after GELU, and the attention weights.
    """
    full = width * (1 + 2 + 3 + 1 + 1 + 2 * mlp_ratio) + 2 * num_heads * tokens
    products = width * (1 + 3 + 1 + 1 + mlp_ratio) + num_heads * tokens
    weights_products = width * (1 + 3 + 1 + 1 + mlp_ratio)
    per_token = {"none": full, "full": width, "dots": products, "dots_no_batch": weights_products}[computation.remat]
    return int(depth * tokens * per_token * jnp.dtype(computation.dtype).itemsize)


class Blocks(nn.Module):
    """`depth` blocks, one after the other.

    Parameters are `0`, `1`, ... or, scanned, one `stacked` with a leading layer axis; `stack_blocks` and
    `unstack_blocks` convert. Both forms compute the same.
    """

    depth: int
    num_heads: int
    mlp_ratio: float
    norm_epsilon: float
    drop_path_rate: float = 0.0
    computation: Computation = Computation()

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], observer: Observer | None = None, dropout_key: Any = None
    ) -> tuple[Float[Array, "b n d"], Any]:
        """Returns the last block's output and the observer's results stacked over layers."""
        scan = self.computation.scan_blocks
        block = Block
        if self.computation.remat != "none":
            block = nn.remat(Block, policy=REMAT_POLICIES[self.computation.remat], prevent_cse=not scan)
        arguments = (
            self.num_heads, self.mlp_ratio, self.norm_epsilon, jnp.dtype(self.computation.dtype), observer,
        )  # fmt: skip
        rates = np.linspace(0.0, self.drop_path_rate, self.depth)
        keys = None
        if dropout_key is not None and self.drop_path_rate > 0:
            keys = jax.random.split(dropout_key, self.depth)
        if scan:
            scanned = nn.scan(
                block, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=0, length=self.depth
            )
            return scanned(*arguments, name=_STACKED)(x, (keys, jnp.asarray(rates, jnp.float32)))
        observed = []
        for layer in range(self.depth):
            path = (None if keys is None else keys[layer], float(rates[layer]))
            x, seen = block(*arguments, name=str(layer))(x, path)
            observed.append(seen)
        if observer is None:
            return x, None
        return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *observed)


def stack_blocks(tree: Any) -> Any:
    """Turns the numbered blocks in a tree (parameters or an optimizer's state) into stacked ones."""
    return _convert(tree, _stack)


def unstack_blocks(tree: Any) -> Any:
    """Inverse of `stack_blocks`."""
    return _convert(tree, _unstack)


def _convert(tree: Any, convert: Any) -> Any:
    def is_dict(node: Any) -> bool:
        return isinstance(node, Mapping)

    def visit(node: Any) -> Any:
        return convert({key: visit(value) for key, value in node.items()}) if is_dict(node) else node

    return jax.tree.map(visit, tree, is_leaf=is_dict)


def _stack(node: dict[str, Any]) -> dict[str, Any]:
    if not node or not all(key.isdecimal() for key in node):
        return node
    return {_STACKED: jax.tree.map(lambda *leaves: jnp.stack(leaves), *(node[key] for key in sorted(node, key=int)))}


def _unstack(node: dict[str, Any]) -> dict[str, Any]:
    if list(node) != [_STACKED]:
        return node
    depth = jax.tree.leaves(node[_STACKED])[0].shape[0]
    return {str(i): jax.tree.map(lambda leaf, i=i: leaf[i], node[_STACKED]) for i in range(depth)}
