"""What a user can ask for when weights are read; nothing here needs JAX."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mim_jax.errors import InputError, nearest
from mim_jax.weights.layouts import LAYOUTS

DTYPES = ("float32", "bfloat16", "float16", "float64", "keep")
"""Types that weights can be given; "keep" leaves every array in the type that it has in the file."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What a user can ask for.

    Attributes:
        select: components of the place of the network that is wanted, such as "student" or "momentum_encoder".
        layout: name of the layout, instead of recognising it.
        stated: fields that are so, such as `{"num_heads": 12}`.
        dtype: type of the weights, of `DTYPES`.
        lenient: leaves out arrays that the layout does not know, instead of refusing them.
        allow_nonfinite: takes NaN and infinity.
    """

    select: str = ""
    layout: str = ""
    stated: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dtype: str = "float32"
    lenient: bool = False
    allow_nonfinite: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"weights cannot be of type '{self.dtype}'; choose one of {', '.join(DTYPES)}")
        check_layout(self.layout)


def check_layout(name: str) -> None:
    """Raises InputError for the name of a layout that there is not; "" is none."""
    if name and name not in LAYOUTS:
        raise InputError(f"unknown layout '{name}'; {nearest(name, LAYOUTS)}")


def parse_statements(pairs: Sequence[str]) -> dict[str, Any]:
    """`["num_heads=12", "image_size=224,224"]` to values; raises InputError for what is no such pair."""
    stated = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key or not text:
            raise InputError(f"'{pair}' states nothing; write --set KEY=VALUE, such as --set num_heads=12")
        values = [_value(part) for part in text.strip("()[]").split(",") if part.strip()]
        stated[key] = values[0] if len(values) == 1 and "," not in text else tuple(values)
    return stated


def _value(text: str) -> Any:
    text = text.strip()
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)
