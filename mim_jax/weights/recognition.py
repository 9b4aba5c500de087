"""Which layout a set of names has."""

import dataclasses
from collections.abc import Mapping

from mim_jax.errors import InputError
from mim_jax.weights.files.tensors import shown
from mim_jax.weights.layouts import LAYOUTS, Layout
from mim_jax.weights.state_dicts import is_tensor
from mim_jax.weights.strangers import stranger


@dataclasses.dataclass(frozen=True)
class Recognition:
    """A layout, and the names of a network in its spelling.

    Attributes:
        layout: the layout.
        plain: name in the spelling of the layout's rules to name as given.
        unknown: plain names of arrays that the layout does not know.
        extras: how many arrays it knows but leaves out.
    """

    layout: Layout
    plain: dict[str, str]
    unknown: tuple[str, ...]
    extras: int

    @property
    def explained(self) -> int:
        """How many names the layout knows."""
        return len(self.plain) - len(self.unknown)

    @property
    def lacking(self) -> list[str]:
        """Templates of names that the layout requires and that are not there."""
        return self.layout.lacking(self.plain)


def recognise(values: Mapping[str, object], name: str = "") -> Recognition | None:
    """The layout of a network (the one of a `name`, if given); None if no layout fits.

    Among the layouts whose required names are there it is the one that leaves the fewest arrays unexplained.

    Raises InputError if two names become one in a layout that fits.
    """
    layouts = [LAYOUTS[name]] if name else LAYOUTS.values()
    fitting = [found for layout in layouts if (found := _in(layout, values, must_fit=not name))]
    return min(fitting, key=lambda found: (len(found.unknown), found.extras), default=None)


def _in(layout: Layout, values: Mapping[str, object], must_fit: bool) -> Recognition | None:
    plain: dict[str, str] = {}
    twice = ""
    for name in values:
        twice = twice or (name if plain.setdefault(layout.plain_name(name), name) != name else "")
    shapes = {short: tuple(v.shape) for short, name in plain.items() if is_tensor(v := values[name])}
    if must_fit and not layout.fits(shapes):
        return None
    if twice:
        short = layout.plain_name(twice)
        both = f"{shown(plain[short])} and {shown(twice)}"
        raise InputError(f"two of its names mean '{shown(short)}', {both}; remove one")
    made = {name for parts in layout.targets(shapes).values() for name in parts}
    rest = [name for name in shapes if name not in made]
    unknown = tuple(name for name in rest if not layout.is_extra(name))
    return Recognition(layout, plain, unknown, len(rest) - len(unknown))


def unknown_layout(values: Mapping[str, object]) -> InputError:
    """The sentence for names that no layout has: what they are, or else which layout is nearest and what that lacks."""
    if known := stranger(values):
        return InputError(known)
    few = ", ".join(f"'{shown(name)}'" for name in list(values)[:3])
    return InputError(
        f"its layout is not known: it has names such as {few}{_nearest(values)}; look into the file with --inspect, or "
        "name one of the layouts of docs/weights.md with --layout"
    )


def _nearest(values: Mapping[str, object]) -> str:
    found = [recognition for layout in LAYOUTS.values() if (recognition := _try(layout, values))]
    best = min(found, key=lambda each: (-each.explained, len(each.lacking), len(each.layout.rules)), default=None)
    if best is None or 2 * best.explained < len(values):
        return ""
    return f", nearly those of '{best.layout.name}'" + "".join(f", but no {name}" for name in best.lacking[:1])


def _try(layout: Layout, values: Mapping[str, object]) -> Recognition | None:
    try:
        return _in(layout, values, must_fit=False)
    except InputError:
        return None
