"""Names of activations and of encoders with rotary positions, as others write them."""

import re

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "quick_gelu": "quick_gelu",
    "quickgelu": "quick_gelu",
    "gelu_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
"""Name of an activation in Hugging Face's transformers or in timm to ours; several there are one function."""

_ROTARY = re.compile(
    r"(^|[_-])rope([_-]|$)|rotary|dinov3|eva02|lingbot|sapiens|eupe|v_?jepa|pe_(core|lang|spatial)|pixtral"
)


def is_rotary(name: str) -> bool:
    """Whether an architecture of this name turns queries and keys by their positions."""
    return bool(_ROTARY.search(name.lower()))
