"""Settings in a few lines: what differs from the defaults, a line for each group."""

import dataclasses
from collections.abc import Iterator

from mim_jax.ops.showing import shortened

MOST_CHARACTERS = 300


def shown_settings(settings: object) -> str:
    """The name of the settings, and the keys of every group that are not at their defaults."""
    default, name = type(settings)(), type(settings).__name__
    lines = []
    for group, value in vars(settings).items():
        differing = list(_differing(value, getattr(default, group)))
        if differing:
            lines.append(shortened(f"{group}: {', '.join(differing)}", MOST_CHARACTERS))
    return "\n  ".join([f"{name}, all else at its default", *lines]) if lines else f"{name} at their defaults"


def _differing(value: object, default: object) -> Iterator[str]:
    if not dataclasses.is_dataclass(value):
        if value != default:
            yield repr(value)
        return
    for name, own in vars(value).items():
        other = getattr(default, name)
        if dataclasses.is_dataclass(own):
            yield from (f"{name}.{part}" for part in _differing(own, other))
        elif own != other:
            yield f"{name}={own!r}"
