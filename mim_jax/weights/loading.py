"""One way in for whatever holds weights: a file of another code, a model directory, the workdir of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mim_jax.errors import InputError
from mim_jax.paths import local_path
from mim_jax.weights.checking import check_weights
from mim_jax.weights.options import Options

if TYPE_CHECKING:
    import mim_jax.weights.model


def load(
    path: str | Path,
    *,
    select: str = "",
    layout: str = "",
    stated: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    lenient: bool = False,
    allow_nonfinite: bool = False,
) -> "mim_jax.weights.model.Model":
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
    path = local_path(path)
    options = Options(select, layout, stated or {}, dtype, lenient, allow_nonfinite)
    file = check_weights(path)  # what is missing is told at once, before JAX is imported
    if file is not None:
        from mim_jax.weights.importing import understand

        return understand(file, options).model()
    if options != Options():
        raise InputError(f"{path} is a model directory, which needs no options; leave them out")
    from mim_jax.weights.model_directory import read_model_directory

    return read_model_directory(path)
