"""Which layout a set of names has."""

from collections.abc import Mapping
from typing import Any

from mim_jax.errors import InputError
from mim_jax.weights.layouts import LAYOUTS, Layout
from mim_jax.weights.state_dicts import is_tensor


def recognise(tensors: Mapping[str, Any], name: str = "") -> tuple[Layout, dict[str, Any]]:
    """The layout of a network, and its values under the layout's plain names.

    Among the layouts whose required names are there it is the one that leaves the fewest arrays unexplained.

    Raises:
        InputError: no layout fits, or two names become one.
    """
    if name:
        return LAYOUTS[name], plain_names(LAYOUTS[name], tensors)
    fitting = []
    for layout in LAYOUTS.values():
        names = plain_names(layout, tensors)
        shapes = {name: tuple(value.shape) for name, value in names.items() if is_tensor(value)}
        if layout.fits(shapes):
            fitting.append((*unexplained(layout, shapes), layout, names))
    if not fitting:
        few = ", ".join(f"'{name}'" for name in list(tensors)[:3])
        raise InputError(
            f"its layout is not known: it has names such as {few}; look into the file with --inspect, or name one of "
            "the layouts of docs/weights.md with --layout"
        )
    return min(fitting, key=lambda found: found[:2])[2:]


def unexplained(layout: Layout, names: Mapping[str, Any]) -> tuple[int, int]:
    """How many arrays a layout does not know, and how many it knows but leaves out."""
    made = {name for parts in layout.targets(names).values() for name in parts}
    rest = [name for name in names if name not in made]
    extras = sum(layout.is_extra(name) for name in rest)
    return len(rest) - extras, extras


def plain_names(layout: Layout, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Values under the names of the layout's rules; raises InputError if two names become one."""
    plain: dict[str, Any] = {}
    for name, value in tensors.items():
        short = layout.plain_name(name)
        if short in plain:
            raise InputError(f"two of its names mean '{short}', one of them is '{name}'; remove one")
        plain[short] = value
    return plain
