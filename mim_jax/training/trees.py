"""Trees of arrays by the names of their leaves."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax

Rules = Sequence[tuple[str, Any]]
"""Pairs of a regular expression and a value; the first that is found in a name wins."""


def leaf_name(path: tuple[Any, ...]) -> str:
    """Name of a leaf such as "encoder/blocks/0/attn/qkv/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def map_with_names(function: Callable[[str, Any], Any], tree: Any) -> Any:
    """Applies `function(name, leaf)` to every leaf."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function(leaf_name(path), leaf), tree)


def first_match(rules: Rules, name: str) -> Any:
    """Value of the first rule found in `name`; raises KeyError if there is none."""
    for pattern, value in rules:
        if re.search(pattern, name):
            return value
    raise KeyError(f"no rule for '{name}'")
