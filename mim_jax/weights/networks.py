"""Which networks a checkpoint holds, and which of them is wanted.

Every network has a patch embedding. What stands in front of its name, in whatever training framework's words, stands in
front of all names of that network.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence

from mim_jax.errors import InputError
from mim_jax.weights.files.tensors import StoredTensor, shown
from mim_jax.weights.layouts import LAYOUTS
from mim_jax.weights.recognition import Recognition, recognise, unknown_layout
from mim_jax.weights.state_dicts import StateDict, find_state_dicts, is_tensor, without_wrappers

PATCH_EMBEDDING, MASK_TOKEN = "encoder/patch_embed/kernel", "encoder/mask_token"

AVERAGES = frozenset("ema momentum averaged average avg swa".split())
"""Words for a running average of a network; the network itself is taken."""

CONVENTIONS = (
    ("teacher", "student"),  # DINO, iBOT, DINOv2
    ("target", "context"),  # I-JEPA
    ("target", ""),  # I-JEPA: target_encoder and encoder
    ("online", "target"),  # BYOL
    ("base", "momentum"),  # MoCo v3
    ("q", "k"),  # MoCo
)
"""Word of the network that its authors take, and word of the one that they leave."""


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of a checkpoint.

    Attributes:
        path: keys of dictionaries and parts of names that lead to its patch embedding.
        place: those in front of the names below; a layout may have the last one in its own names.
        values: what it holds by its name behind the place.
        own: the same names as they are in the file.
        recognition: its layout and names in that; None where no layout fits.
        beside: how many arrays of its dictionary belong to no network, by the part that they belong to.
        apart: names in front of the place that the layout would take for the encoder's.
        counters: names of single numbers that are no weights.
    """

    path: tuple[str, ...]
    place: tuple[str, ...]
    values: dict[str, object]
    own: dict[str, str]
    recognition: Recognition | None
    beside: dict[str, int] = dataclasses.field(default_factory=dict)
    apart: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its place as people write it."""
        return "/".join(self.place)

    @property
    def label(self) -> str:
        """What selects it."""
        return f"'{shown('/'.join(self.path) or '/')}'"


def find_networks(content: object, layout: str = "") -> list[Network]:
    """All networks in a checkpoint, in the order of the file; of this layout, if one is given.

    Raises InputError if there are no weights in it.
    """
    return [network for found in find_state_dicts(content) for network in _networks(found, layout)]


def _anchors() -> tuple[frozenset[str], frozenset[str]]:
    """Names of patch embeddings, and what layouts themselves have in front of names."""
    rules = [rule for layout in LAYOUTS.values() for rule in layout.rules if rule.target == PATCH_EMBEDDING]
    return (
        frozenset(source for rule in rules for source in rule.sources),
        frozenset(prefix for layout in LAYOUTS.values() for prefix in layout.prefixes),
    )


EMBEDDINGS, FRONTS = _anchors()


def _networks(found: StateDict, layout: str) -> Iterator[Network]:
    prefixes = _prefixes(found.values)
    networks = [_network(found, prefix, prefixes, layout) for prefix in prefixes]
    taken = {name for network in networks for name in network.own.values()}
    beside = [short for short, name in found.own.items() if name not in taken and is_tensor(found.values[short])]
    for network in networks:
        parts, apart = _parts(network, found, beside), _apart(network, found, beside)
        yield dataclasses.replace(network, beside=parts, apart=apart)


def _prefixes(values: dict[str, object]) -> list[str]:
    """What stands in front of the names of each network."""
    ends = [(name, end) for name in values for end in EMBEDDINGS if name == end or name.endswith("." + end)]
    return list(dict.fromkeys(name.removesuffix(end) for name, end in ends)) or [_common(values)]


def _common(values: dict[str, object]) -> str:
    """What all names of arrays have in common, up to a dot."""
    names = [name.split(".")[:-1] for name, value in values.items() if is_tensor(value)]
    same = []
    for parts in zip(*names):
        if len(set(parts)) > 1:
            break
        same.append(parts[0] + ".")
    return "".join(same)


def _network(found: StateDict, prefix: str, prefixes: Sequence[str], layout: str) -> Network:
    """The network behind a prefix, with the last part of that where the layout has it in its own names.

    A layout that has that part explains names in front of it too, such as a classifier or a decoder.
    """
    fronts = [front for front in FRONTS if prefix == front or prefix.endswith("." + front)]
    bases = [prefix, *(prefix.removesuffix(front) for front in fronts)]
    others = [other for other in prefixes if other != prefix]
    networks = [_behind(found, base, prefix, others, layout) for base in bases]
    return max(networks, key=_rank)


def _rank(network: Network) -> tuple[int, int, int]:
    known = network.recognition
    return (known.explained, -len(known.unknown), -len(network.place)) if known else (-1, 0, 0)


def _behind(found: StateDict, base: str, prefix: str, others: Sequence[str], layout: str) -> Network:
    deeper = tuple(other for other in others if other.startswith(base))
    names = [name for name in found.values if name.startswith(base) and not (deeper and name.startswith(deeper))]
    values = {name.removeprefix(base): found.values[name] for name in names}
    return Network(
        (*found.place, *prefix.split(".")[:-1]),
        (*found.place, *base.split(".")[:-1]),
        values,
        {name.removeprefix(base): found.own[name] for name in names},
        recognise(values, layout),
        counters=found.counters,
    )


def _apart(network: Network, found: StateDict, names: Iterable[str]) -> tuple[str, ...]:
    """Those of some names in front of the place that would be the encoder's behind it, and that it lacks there."""
    if network.recognition is None:
        return ()
    layout, parts = network.recognition.layout, network.place[len(found.place) :]
    there = layout.targets(network.recognition.plain)
    fronts = ["".join(part + "." for part in parts[:count]) for count in range(len(parts))]
    made = [
        (name, path)
        for front in fronts
        for name in names
        if name.startswith(front)
        for path in layout.targets([name.removeprefix(front)])
    ]
    needed = [n for n, path in made if path.startswith("encoder/") and path not in there and path != MASK_TOKEN]
    return tuple(found.own[name] for name in needed)


def _parts(network: Network, found: StateDict, names: Iterable[str]) -> dict[str, int]:
    """How many of some names belong to which part: the first part of a name that is not in front of the network's."""
    counts: dict[str, int] = {}
    inside = network.place[len(found.place) :]
    for name in names:
        parts = name.split(".")
        shared = next((n for n, (one, other) in enumerate(zip(parts, inside)) if one != other), len(inside))
        part = ".".join(parts[: shared + 1])
        counts[part] = counts.get(part, 0) + 1
    return counts


def choose(networks: Sequence[Network], select: str = "") -> Network:
    """The network that is meant: the selected one, or that of several which its authors take.

    Raises InputError if nothing of this name is there, if no layout fits, and if nothing says which is meant.
    """
    meant = _selected(networks, select) if select else list(networks)
    known = [network for network in meant if network.recognition]
    if not known:
        raise unknown_layout(meant[0].values)
    best = [one for one in known if all(other is one or _preferred(one, other) for other in known)]
    if not best and not _same(known):
        places = ", ".join(network.label for network in known)
        raise InputError(f"it holds several networks, {places}; say which is meant with --select")
    return (best or known)[0]


def _selected(networks: Sequence[Network], select: str) -> list[Network]:
    """The networks of just this path, or else those with all parts of `select` in their path."""
    wanted = tuple(without_wrappers(part for part in re.split(r"[/.]", select) if part))
    for found in (
        [network for network in networks if network.path == wanted],
        [network for network in networks if network.place == wanted],
        [network for network in networks if wanted and set(wanted) <= {*network.path}],
    ):
        if found:
            return found
    places = ", ".join(network.label for network in networks if network.path)
    raise InputError(f"there is no '{shown(select)}' in it; it has {places or 'only one network, without a name'}")


def _preferred(one: Network, other: Network) -> bool:
    """Whether a convention takes one of two networks."""
    first, second = _words(one), _words(other)
    mine, theirs = first - second, second - first
    if theirs and theirs <= AVERAGES and not mine & AVERAGES:
        return True
    return any(word in mine and (left in theirs if left else not theirs) for word, left in CONVENTIONS)


def _words(network: Network) -> frozenset[str]:
    return frozenset(word for part in network.path for word in re.split(r"[^a-z0-9]+", part.lower()) if word)


def _same(networks: Sequence[Network]) -> bool:
    """Whether networks are the same arrays under several names."""
    return len({_identity(network) for network in networks}) == 1


def _identity(network: Network) -> tuple[tuple[object, ...], ...]:
    arrays = [value for value in network.values.values() if is_tensor(value)]
    return tuple((id(a.storage), a.offset, a.shape) if isinstance(a, StoredTensor) else (id(a),) for a in arrays)
