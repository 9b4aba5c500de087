"""Names of a checkpoint and of our parameters, side by side: rules that are read in both directions.

A table of rules is a page of text with three columns: name in the checkpoint, path in our parameters, kind. `{i}`
stands for a number, the same in both columns; `{s+1}` for one that is larger by one there. `{query,key,value}` names
parts that are one array with us. A kind of `MODULES` stands for a weight and a bias at once, one of `ARRAYS` for a
single array.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable

MODULES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "norm": (("weight", "scale", "d -> d"), ("bias", "bias", "d -> d")),
    "dense": (("weight", "kernel", "o i -> i o"), ("bias", "bias", "o -> o")),
    "convolution": (("weight", "kernel", "o c h w -> h w c o"), ("bias", "bias", "o -> o")),
    "qkv": (("weight", "kernel", "(t k e) d -> d t k e"), ("bias", "bias", "(t k e) -> t k e")),
    "qkv_parts": (("weight", "kernel", "t (k e) d -> d t k e"), ("bias", "bias", "t (k e) -> t k e")),
    "merge_heads": (("weight", "kernel", "o (k e) -> k e o"), ("bias", "bias", "o -> o")),
    "gate": (("weight", "kernel", "(t o) i -> i t o"), ("bias", "bias", "(t o) -> t o")),
    "gate_parts": (("weight", "kernel", "t o i -> i t o"), ("bias", "bias", "t o -> t o")),
    "pixels": (("weight", "kernel", "(c h w) d 1 1 -> d c h w"), ("bias", "bias", "(c h w) -> c h w")),
    "batch_norm": (("running_mean", "mean", "d -> d"), ("running_var", "variance", "d -> d")),
}
"""Kind of a module to (name of the array there, name here, how its axes are arranged)."""

ARRAYS: dict[str, str] = {
    "vector": "d -> d",
    "row": "1 d -> d",
    "token": "1 1 d -> d",
    "tokens": "1 n d -> n d",
    "table": "n k -> n k",
    "heads": "(k e) -> k e",
    "factors": "k 1 1 -> k",
}
"""Kind of a single array to how its axes are arranged."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """One array: where it lies in a checkpoint, and where with us.

    Attributes:
        sources: templates of its name there; several if it is in parts.
        target: template of its path here, such as "encoder/blocks/{i}/attn/qkv/kernel".
        pattern: einops pattern from there to here; parts are stacked in front.
    """

    sources: tuple[str, ...]
    target: str
    pattern: str


def parse_rules(page: str) -> tuple[Rule, ...]:
    """Rules from a page of text; raises ValueError for a line that is none."""
    lines = [line.split() for line in page.splitlines() if line.strip()]
    return tuple(itertools.chain.from_iterable(_rules_of(line) for line in lines))


def _rules_of(line: list[str]) -> Iterable[Rule]:
    source, target, kind = line
    sources = _parts(source)
    if kind in ARRAYS:
        return [Rule(sources, target, ARRAYS[kind])]
    if kind not in MODULES:
        raise ValueError(f"'{kind}' is no kind of rule; known are {', '.join([*MODULES, *ARRAYS])}")
    return [
        Rule(tuple(f"{name}.{there}" for name in sources), f"{target}/{here}", pattern)
        for there, here, pattern in MODULES[kind]
    ]


def _parts(source: str) -> tuple[str, ...]:
    found = re.search(r"\{([a-z_0-9.]+(?:,[a-z_0-9.]+)+)\}", source)
    return tuple(source.replace(found[0], part) for part in found[1].split(",")) if found else (source,)


_NUMBER = re.compile(r"\{([a-z])([+-]\d+)?\}")


@functools.cache
def _expression(template: str) -> re.Pattern[str]:
    pieces, end = [], 0
    for found in _NUMBER.finditer(template):
        pieces += [re.escape(template[end : found.start()]), rf"(?P<{found[1]}>\d+)"]
        end = found.end()
    return re.compile("".join([*pieces, re.escape(template[end:])]))


@functools.lru_cache(maxsize=1 << 16)
def skeleton(name: str) -> str:
    """A name or a template with a sign for every number, the same for a template and the names that it gives."""
    return re.sub(r"\{[a-z](?:[+-]\d+)?\}|\d+", "#", name)


def read_numbers(template: str, name: str) -> dict[str, int] | None:
    """The numbers with which a template gives `name`, or None if it cannot."""
    found = _expression(template).fullmatch(name)
    if found is None:
        return None
    offsets = {letter: int(offset or 0) for letter, offset in _NUMBER.findall(template)}
    numbers = {letter: int(digits) - offsets[letter] for letter, digits in found.groupdict().items()}
    return numbers if min(numbers.values(), default=0) >= 0 else None


def fill(template: str, numbers: dict[str, int]) -> str:
    """The name that a template gives with these numbers."""
    return _NUMBER.sub(lambda found: str(numbers[found[1]] + int(found[2] or 0)), template)
