"""Settings as they are saved with a run, and compared with those that it goes on with."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mim_jax.experiments.analyze_settings import AnalyzeSettings
from mim_jax.experiments.probe_settings import ProbeSettings
from mim_jax.experiments.settings import Settings

AnySettings = Settings | AnalyzeSettings | ProbeSettings


def to_json(settings: AnySettings) -> str:
    """The settings as JSON text."""
    return json.dumps(dataclasses.asdict(settings), indent=2) + "\n"


def differing_keys(
    saved: Mapping[str, Any], current: Mapping[str, Any], kind: type[AnySettings], groups: Sequence[str]
) -> list[str]:
    """Keys of the groups that differ between saved settings of a kind and these, both read from JSON, with both values.

    A key that was saved and is no more decided nothing, and one that was not saved yet had its default.
    """
    wanted = {field.name: field for field in dataclasses.fields(kind)}
    found = []
    for group in groups:
        default = json.loads(json.dumps(_default(wanted[group]), default=dataclasses.asdict))
        found += _differences(group, saved.get(group, default), current[group], default, wanted[group].type)
    return [f"{key} ({old!r} there, {new!r} here)" for key, old, new in found]


def _differences(key: str, old: object, new: Any, default: Any, kind: object) -> Iterator[tuple[str, Any, Any]]:
    if dataclasses.is_dataclass(kind) and isinstance(old, Mapping):
        for field in sorted(dataclasses.fields(kind), key=lambda field: field.name):
            name = field.name
            yield from _differences(f"{key}.{name}", old.get(name, default[name]), new[name], default[name], field.type)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted(old.keys() | new.keys()):
            yield from _differences(f"{key}.{name}", old.get(name), new.get(name), None, None)
    elif old != new:
        yield key, old, new


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
