"""Nested parameters as flat ones and back; a path joins its keys by slashes."""

from collections.abc import Iterable, Mapping
from typing import Any


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": x}}` to `{"a/b": x}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def nest(flat: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Inverse of `flatten`, from pairs of path and leaf."""
    tree: dict[str, Any] = {}
    for path, leaf in flat:
        *parents, last = path.split("/")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = leaf
    return tree
