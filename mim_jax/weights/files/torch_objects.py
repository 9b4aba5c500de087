"""Tensors out of torch's pickles, left in their file.

Each function raises TypeError for arguments that make no sense.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from mim_jax.weights.files.inert import Global, Opaque, integers
from mim_jax.weights.files.tensors import DTYPES, Storage, StoredTensor

MOST_ARGUMENTS = 16

Rebuilt = TypeVar("Rebuilt")

# Classes of torch's storages, and what they hold; new files have untyped ones, with the type at the tensor.
STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "UntypedStorage": "uint8",
}


@dataclasses.dataclass(frozen=True, eq=False)
class TypedStorage:
    """A storage of torch with the type that its class says."""

    storage: Storage
    dtype: np.dtype
    swapped: bool = False


def _tensor(
    kept: object, offset: object, size: object, stride: object, *, dtype: np.dtype | None = None
) -> StoredTensor:
    if not isinstance(kept, TypedStorage):
        raise TypeError("not a storage")
    (offset,) = integers((offset,))
    return StoredTensor(integers(size), dtype or kept.dtype, kept.storage, integers(stride), offset, kept.swapped)


def _tensor_v2(
    kept: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object,
    hooks: object,
    metadata: object = None,
) -> StoredTensor | Opaque:
    """A tensor; one whose numbers are to be conjugated or negated when it is used stays opaque."""
    return Opaque("torch.Tensor") if metadata else _tensor(kept, offset, size, stride)


def _tensor_v3(
    kept: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object,
    hooks: object,
    dtype: object,
    metadata: object = None,
) -> StoredTensor | Opaque:
    """A tensor of a type that has no class of storage."""
    known = DTYPES.get(dtype.name) if isinstance(dtype, Global) and dtype.module == "torch" else None
    return Opaque("torch.Tensor") if metadata or known is None else _tensor(kept, offset, size, stride, dtype=known)


def _first(value: Rebuilt, *rest: object) -> Rebuilt:
    """The tensor inside a parameter, or the array or tensor that was on another device."""
    return value


TENSORS: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor_v2,
    "_rebuild_tensor_v3": _tensor_v3,
    "_rebuild_parameter": _first,
    "_rebuild_parameter_with_state": _first,
    "_rebuild_device_tensor_from_numpy": _first,
    "_rebuild_device_tensor_from_cpu_tensor": _first,
}


WRAPPER = "_rebuild_wrapper_subclass"
"""What makes a tensor that holds others, among its attributes, instead of numbers."""

PARTIAL = "Partial"
"""End of the name of a placement whose local numbers are summands."""


def tensor_subclass(function: object, kind: object, arguments: Any, state: object) -> Any:
    """The plain tensor inside an object of a subclass."""
    if not isinstance(function, Global) or function.module != "torch._utils" or len(arguments) > MOST_ARGUMENTS:
        raise TypeError("not a way to rebuild a tensor")
    if function.name == WRAPPER:
        return _distributed(kind, arguments, state)
    return TENSORS[function.name](*arguments)


def _distributed(kind: object, arguments: Any, state: object) -> StoredTensor | Opaque:
    """A distributed tensor of which this process held everything; any other one stays opaque."""
    attributes = next(
        (part for part in (state if isinstance(state, tuple) else (state,)) if isinstance(part, dict)), {}
    )
    local, spec = attributes.get("_local_tensor"), attributes.get("_spec")
    placements = spec.get("placements", ()) if isinstance(spec, Opaque) else ()
    summed = any(isinstance(each, Opaque) and each.name.endswith(PARTIAL) for each in placements)
    if isinstance(local, StoredTensor) and local.shape == integers(arguments[2]) and not summed:
        return local
    return Opaque(str(kind), arguments)
