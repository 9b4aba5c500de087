"""What a layout of checkpoints is."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mim_jax.data.imagenet import IMAGENET_MEAN, IMAGENET_STD
from mim_jax.weights.rules import Rule, fill, parse_rules, read_numbers, skeleton

HALF = (0.5, 0.5, 0.5)

BUFFERS = (r".*relative_position_index", r".*relative_coords_table", r".*attn_mask", r".*num_batches_tracked")
"""Names of arrays that follow from the architecture and are made anew."""

Shapes = Mapping[str, tuple[int, ...]]


def _always(shapes: Shapes) -> bool:
    return True


@dataclasses.dataclass(frozen=True)
class Layout:
    """One way to name the arrays of a model.

    Attributes:
        name: what it is called on the command line.
        title: what it is, in words.
        family: the family of encoder that it holds.
        pages: tables of rules, as text.
        prefixes: what may stand in front of names and is left out.
        front: what stands in front of names when they are written, of the arrays whose paths begin with `fronted`.
        fronted: those beginnings.
        aliases: (regular expression, replacement) for names in older or other files, tried one after the other.
        required: names (templates) that must all be there for a checkpoint to have this layout.
        absent: names (templates) of which none may be there.
        when: what shapes must be like, where names are not enough.
        extras: regular expressions of names that are known and left out.
        method: objective that the arrays beyond the encoder belong to: "mae", "simmim", "lut" or "supervised".
        fields: fields of the encoder that neither names nor shapes can tell.
        readout: how a classifier of this layout reads its encoder, where names cannot tell.
        unplaced_prefix: whether its prefix tokens may have no positions of their own.
        mean: what the pixels of its images are centred by.
        std: what they are divided by.
    """

    name: str
    title: str
    family: str
    pages: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    front: str = ""
    fronted: tuple[str, ...] = ("encoder/",)
    aliases: tuple[tuple[str, str], ...] = ()
    required: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    when: Callable[[Shapes], bool] = _always
    extras: tuple[str, ...] = ()
    method: str = ""
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    readout: str = ""
    unplaced_prefix: bool = False
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @functools.cached_property
    def rules(self) -> tuple[Rule, ...]:
        """All rules."""
        return parse_rules("\n".join(self.pages))

    def plain_name(self, name: str) -> str:
        """A name without what may stand in front, in the spelling of the rules."""
        for prefix in self.prefixes:
            name = name.removeprefix(prefix)
        for expression, replacement in self.aliases:
            name = re.sub(expression, replacement, name)
        return name

    def is_extra(self, name: str) -> bool:
        """Whether a (plain) name is known and left out."""
        return any(re.fullmatch(expression, name) for expression in self.extras)

    def fits(self, shapes: Shapes) -> bool:
        """Whether (plain) names have all that is required and nothing that must not be there."""
        return not self.lacking(shapes) and not any(_there(self.absent, shapes)) and self.when(shapes)

    def lacking(self, names: Iterable[str]) -> list[str]:
        """Templates of names that are required and that are not among these."""
        return [template for template, there in zip(self.required, _there(self.required, names)) if not there]

    def targets(self, names: Iterable[str]) -> dict[str, dict[str, tuple[Rule, int]]]:
        """Path of each of our arrays to the (plain) names that make it, each with its rule and its place in it."""
        found: dict[str, dict[str, tuple[Rule, int]]] = {}
        for name in names:
            for rule, part, numbers in self._matches(name):
                found.setdefault(fill(rule.target, numbers), {})[name] = (rule, part)
        return found

    @functools.cached_property
    def _by_skeleton(self) -> dict[str, list[tuple[Rule, int, str]]]:
        """Rules, parts and templates by the skeleton of the names that they read."""
        found: dict[str, list[tuple[Rule, int, str]]] = {}
        for rule in self.rules:
            for part, template in enumerate(rule.sources):
                found.setdefault(skeleton(template), []).append((rule, part, template))
        return found

    def _matches(self, name: str) -> Iterable[tuple[Rule, int, dict[str, int]]]:
        for rule, part, template in self._by_skeleton.get(skeleton(name), ()):
            numbers = read_numbers(template, name)
            if numbers is not None:
                yield rule, part, numbers

    @functools.cached_property
    def _by_target(self) -> dict[str, list[Rule]]:
        found: dict[str, list[Rule]] = {}
        for rule in self.rules:
            found.setdefault(skeleton(rule.target), []).append(rule)
        return found

    def sources_of(self, target: str) -> list[tuple[Rule, tuple[str, ...]]]:
        """The rules that can make one of our arrays, and the names that each wants."""
        rules = self._by_target.get(skeleton(target), ())
        found = ((rule, read_numbers(rule.target, target)) for rule in rules)
        return [(rule, tuple(fill(source, n) for source in rule.sources)) for rule, n in found if n is not None]


def _there(templates: Sequence[str], names: Iterable[str]) -> list[bool]:
    """Whether each of some templates gives one of the names."""
    by_skeleton: dict[str, list[str]] = {}
    for name in names:
        by_skeleton.setdefault(skeleton(name), []).append(name)
    candidates = [by_skeleton.get(skeleton(template), ()) for template in templates]
    return [any(read_numbers(t, name) is not None for name in near) for t, near in zip(templates, candidates)]
