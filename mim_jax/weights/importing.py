"""From a checkpoint of another code to a model: recognised, worked out, checked, and then read array by array."""

import dataclasses
import math
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from mim_jax.errors import InputError
from mim_jax.models.build import family
from mim_jax.models.presets import nearest_preset
from mim_jax.weights.architecture import Architecture, work_out
from mim_jax.weights.arrangement import arrange
from mim_jax.weights.evidence import Evidence
from mim_jax.weights.files.checkpoint_file import CheckpointFile, open_checkpoint
from mim_jax.weights.geometry import check_axes, check_network, is_usual_buffer
from mim_jax.weights.layouts import Layout
from mim_jax.weights.matching import Entry, left_out, match, some
from mim_jax.weights.model import Model, parameter_shapes
from mim_jax.weights.networks import Network, choose, find_networks
from mim_jax.weights.options import Options
from mim_jax.weights.rules import Rule
from mim_jax.weights.state_dicts import is_tensor
from mim_jax.weights.stated.reading import read_statements
from mim_jax.weights.stated.statements import as_stated

ONE_PART = re.compile(r"-\d+-of-\d+\.\w+$")
"""End of the name of a file that holds a part of a network."""


@dataclasses.dataclass(frozen=True)
class Import:
    """A checkpoint that is understood; its arrays are not read yet.

    Attributes:
        file: the file.
        place: which network of it.
        layout: its layout.
        architecture: what it holds.
        entries: every array of ours, in the order of their paths.
        notes: sentences about what was taken for granted and what was left out.
        options: what was asked for.
    """

    file: CheckpointFile
    place: str
    layout: Layout
    architecture: Architecture
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]
    options: Options

    def dtype(self, entry: Entry) -> np.dtype:
        """Type that an array will have."""
        if self.options.dtype == "keep":
            return np.result_type(*(part.dtype for part in entry.parts))
        return np.dtype(self.options.dtype)

    def read(self, entry: Entry) -> np.ndarray:
        """One array of ours in the type of the file, as a view on what was read where that is possible.

        Raises InputError if it holds NaN or infinity, or would in the type that is wanted.
        """
        parts = [_values(part) for part in entry.parts]
        for name, part in zip(entry.names, parts):
            if not self.options.allow_nonfinite:
                self._check_finite(name, part, self.dtype(entry))
        return arrange(parts, entry.rule.pattern, entry.shape)

    def _check_finite(self, name: str, array: np.ndarray, dtype: np.dtype) -> None:
        if not _finite(array):
            raise InputError(f"{self.file.path}: {name} holds NaN or infinity; take another file, or --allow_nonfinite")
        if not np.can_cast(array.dtype, dtype):
            with np.errstate(over="ignore"):
                fits = _finite(array.astype(dtype))
            if not fits:
                raise InputError(f"{self.file.path}: {name} holds numbers beyond {dtype}; choose another --dtype")

    def model(self) -> Model:
        """All arrays in memory.

        Their axes may be turned round in memory: whoever places them on a device copies them anyhow.
        """
        with ThreadPoolExecutor() as pool:
            arrays = pool.map(lambda entry: self.read(entry).astype(self.dtype(entry), copy=False), self.entries)
            parameters = unflatten_dict(dict(zip((entry.path for entry in self.entries), arrays)), sep="/")
        return Model(
            self.architecture.encoder,
            parameters,
            self.architecture.preprocessing,
            self.architecture.objective,
            self.name,
            self.origin,
            self.notes,
        )

    def report(self) -> list[str]:
        """What was understood, as lines for a reader."""
        encoder, objective = self.architecture.encoder, self.architecture.objective
        numbers = sum(math.prod(entry.shape) for entry in self.entries)
        method = f"with {type(objective).__name__}" if objective is not None else "without a head or decoder"
        return [
            f"layout: {self.layout.name}, {self.layout.title}" + (f"; network: {self.place}" if self.place else ""),
            f"model: {self.name or family(encoder)}, {method}; {numbers:,} numbers in {len(self.entries)} arrays",
            f"images: {encoder.image_size[0]}x{encoder.image_size[1]}, mean "
            f"{self.architecture.preprocessing.mean}, std {self.architecture.preprocessing.std}",
            *(f"note: {note}" for note in self.notes),
        ]

    @property
    def name(self) -> str:
        """Name of the preset that the encoder is; "" if it is none."""
        return nearest_preset(self.architecture.encoder)

    @property
    def origin(self) -> dict[str, Any]:
        """Where the weights came from, as plain values."""
        files = [path.name for path in self.file.files]
        return {"files": files, "format": self.file.format, "network": self.place, "layout": self.layout.name}


def understand(source: str | Path | CheckpointFile, options: Options = Options()) -> Import:
    """Works out what a checkpoint holds, given by its path or opened already, without reading its arrays.

    Raises InputError, naming the file, for whatever cannot be read or does not fit.
    """
    file = source if isinstance(source, CheckpointFile) else open_checkpoint(source)
    try:
        return _understand(file, options)
    except InputError as error:
        hint = "; it is one part of several, give their folder" if ONE_PART.search(file.path.name) else ""
        raise InputError(f"{file.path}: {error}{hint}") from error


def _understand(file: CheckpointFile, options: Options) -> Import:
    found = find_networks(file.content, options.layout)
    network = choose(found, options.select)
    assert network.recognition is not None  # `choose` takes no other
    layout, plain = network.recognition.layout, network.recognition.plain
    names = {short: network.values[name] for short, name in plain.items()}
    own = {short: network.own[name] for short, name in plain.items()}
    check_network(network, options.lenient)
    targets = layout.targets(names)
    check_axes(layout, targets, names, own)
    shapes = {name: tuple(value.shape) for name, value in names.items() if is_tensor(value)}
    arrays = {
        path: shapes[_first(parts)] for path, parts in targets.items() if _complete(parts) and _first(parts) in shapes
    }
    if "encoder/patch_embed/kernel" not in arrays:
        raise InputError("it lacks a patch embedding, without which its architecture cannot be told")
    stated = read_statements(file, layout, arrays, options.stated)
    evidence = Evidence(
        arrays,
        {name: shape for name, shape in shapes.items() if layout.is_extra(name) and is_usual_buffer(name, shape)},
        stated.values,
        lambda path: _values(names[_first(targets[path])]),
        sources=stated.sources,
        read_buffer=lambda name: _values(names[name]),
        unplaced_prefix=layout.unplaced_prefix,
    )
    try:
        architecture = work_out(layout, evidence)
        entries = match(layout, names, parameter_shapes(architecture.encoder, architecture.objective), own)
    except InputError as error:
        raise InputError(f"{error}{as_stated(options.stated)}") from error
    not_used = left_out(layout, names, entries, options.lenient, own)
    notes = (*_other_networks(found, network), *stated.notes, *evidence.assumed, *not_used)
    return Import(file, network.name, layout, architecture, entries, notes, options)


def _first(parts: Mapping[str, tuple[Rule, int]]) -> str:
    return min(parts, key=lambda name: parts[name][1])


def _complete(parts: Mapping[str, tuple[Rule, int]]) -> bool:
    return len(parts) == len(next(iter(parts.values()))[0].sources)


def _other_networks(found: list[Network], taken: Network) -> list[str]:
    others = [network.label for network in found if network is not taken and network.recognition]
    beside = [f"{count} arrays of '{part}'" for part, count in taken.beside.items()]
    return [
        *([f"took {taken.label}; there is also {', '.join(others)}, see --select"] if others else []),
        *([f"left out, beside it: {some(beside)}"] if beside else []),
        *([f"left out, as counters: {some(list(taken.counters))}"] if taken.counters else []),
    ]


def _values(part: Any) -> np.ndarray:
    return part if isinstance(part, np.ndarray) else part.read()


def _finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())
