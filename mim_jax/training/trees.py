"""Trees of arrays by the names of their leaves."""

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from jax.tree_util import KeyPath

Tree = TypeVar("Tree")
"""Nested dicts, `flax.struct` dataclasses or NamedTuples of arrays, or of their abstract descriptions."""

Rules = Sequence[tuple[str, Any]]
"""Pairs of a regular expression and a value; the first that is found in a name wins."""


def leaf_name(path: KeyPath) -> str:
    """Name of a leaf such as "encoder/blocks/0/attn/qkv/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def map_with_names(function: Callable[[str, Any], Any], tree: Tree) -> Tree:
    """Applies `function(name, leaf)` to every leaf; the tree that comes of it is of the same kind."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function(leaf_name(path), leaf), tree)


def first_match(rules: Rules, name: str) -> Any:
    """Value of the first rule found in `name`; raises KeyError if there is none."""
    for pattern, value in rules:
        if re.search(pattern, name):
            return value
    raise KeyError(f"no rule for '{name}'")
