"""Settings in a few lines: what differs from the defaults, a line for each group."""

import dataclasses
from collections.abc import Iterator

from mim_jax.ops.showing import shortened

MOST_CHARACTERS = 300


def shown_settings(settings: object) -> str:
    """The name of the settings, and the keys of every group that are not at their defaults."""
    kind = type(settings)
    default, name = kind(), kind.__name__
    lines = []
    for field in dataclasses.fields(kind):
        differing = list(_differing(field.name, getattr(settings, field.name), getattr(default, field.name)))
        if differing:
            lines.append(shortened(f"{field.name}: {', '.join(differing)}", MOST_CHARACTERS))
    return "\n  ".join([f"{name}, all else at its default", *lines]) if lines else f"{name} at their defaults"


def _differing(name: str, value: object, default: object) -> Iterator[str]:
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        if value != default:
            yield repr(value)
        return
    for field in dataclasses.fields(value):
        own, other = getattr(value, field.name), getattr(default, field.name)
        if dataclasses.is_dataclass(own):
            yield from (f"{field.name}.{part}" for part in _differing(field.name, own, other))
        elif own != other:
            yield f"{field.name}={own!r}"
