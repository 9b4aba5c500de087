"""Parameters of blocks: one by one, as they lie on disk, or stacked along a layer axis, as a scan wants them."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

STACKED = "stacked"

Tree = TypeVar("Tree")
Node = dict[str, Any]


def stack_blocks(tree: Tree) -> Tree:
    """Turns the numbered blocks in a tree (parameters or an optimizer's state) into stacked ones."""
    return _convert(tree, _stack)


def unstack_blocks(tree: Tree) -> Tree:
    """Inverse of `stack_blocks`."""
    return _convert(tree, _unstack)


def _convert(tree: Tree, convert: Callable[[Node], Node]) -> Tree:
    def visit(node: object) -> object:
        return convert({key: visit(value) for key, value in node.items()}) if isinstance(node, Mapping) else node

    return jax.tree.map(visit, tree, is_leaf=lambda node: isinstance(node, Mapping))


def _stack(node: Node) -> Node:
    if not node or not all(key.isdecimal() for key in node):
        return node
    blocks = [node[key] for key in sorted(node, key=int)]
    if len({jax.tree.structure(block) for block in blocks}) > 1:  # blocks that differ are never scanned
        return node
    return {STACKED: jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)}


def _unstack(node: Node) -> Node:
    if list(node) != [STACKED]:
        return node
    depth = jax.tree.leaves(node[STACKED])[0].shape[0]
    return {str(i): jax.tree.map(lambda leaf, i=i: leaf[i], node[STACKED]) for i in range(depth)}
