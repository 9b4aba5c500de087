"""Parameters of blocks: one by one, as they lie on disk, or stacked along a layer axis, as a scan wants them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

STACKED = "stacked"


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
    blocks = [node[key] for key in sorted(node, key=int)]
    if len({jax.tree.structure(block) for block in blocks}) > 1:  # blocks that differ are never scanned
        return node
    return {STACKED: jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)}


def _unstack(node: dict[str, Any]) -> dict[str, Any]:
    if list(node) != [STACKED]:
        return node
    depth = jax.tree.leaves(node[STACKED])[0].shape[0]
    return {str(i): jax.tree.map(lambda leaf, i=i: leaf[i], node[STACKED]) for i in range(depth)}
