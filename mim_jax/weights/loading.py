"""One way in for whatever holds weights: a file of another code, a model directory, the workdir of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mim_jax.errors import InputError
from mim_jax.weights.importing import Options, understand
from mim_jax.weights.model import Model
from mim_jax.weights.model_directory import is_model_directory, read_model_directory


def load(
    path: str | Path,
    *,
    select: str = "",
    layout: str = "",
    stated: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    lenient: bool = False,
    allow_nonfinite: bool = False,
) -> Model:
    """The model in a checkpoint (PyTorch, safetensors, npz, a Hugging Face folder), model directory or workdir.

    Args:
        path: file or folder.
        select: which network of a checkpoint with several, such as "student" or "momentum_encoder".
        layout: name of its layout, where it is not to be recognised.
        stated: what is so and cannot be told from weights, such as `{"num_heads": 12}`; keys as in `model.json`.
        dtype: type of the weights: "float32", "bfloat16", "float16", "float64", or "keep" for that of the file.
        lenient: leave out arrays that the layout does not know.
        allow_nonfinite: take NaN and infinity.

    Raises InputError, naming the file, for whatever cannot be read or does not fit.
    """
    path = Path(path)
    options = Options(select, layout, stated or {}, dtype, lenient, allow_nonfinite)
    if not is_model_directory(path):
        return understand(path, options).model()
    if options != Options():
        raise InputError(f"{path} is a model directory, which needs no options; leave them out")
    return read_model_directory(path)
