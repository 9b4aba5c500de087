"""Looking into a checkpoint without converting it: what it holds, its statistics, the guess at its layout."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mim_jax.errors import InputError
from mim_jax.weights.files.checkpoint_file import open_checkpoint
from mim_jax.weights.importing import understand
from mim_jax.weights.options import Options
from mim_jax.weights.state_dicts import Stored, is_tensor

LONGEST_VALUE = 60


def inspect(path: Path, options: Options = Options()) -> Iterator[str]:
    """Lines about a checkpoint: every array with shape, type and statistics, other values, and the guess.

    Raises InputError if the file cannot be read; a layout that is not known is only told.
    """
    file = open_checkpoint(path)
    yield f"{path}: {file.format}"
    yield from _lines(file.content, ())
    yield ""
    yield from _guess(path, options)


def _lines(value: object, place: tuple[str, ...]) -> Iterator[str]:
    name = "/".join(place)
    if is_tensor(value):
        yield f"{name}  {list(value.shape)}  {value.dtype}  {_statistics(value)}"
    elif isinstance(value, Mapping):
        yield f"{name or 'top'}  {len(value)} entries"
        for key, item in value.items():
            yield from _lines(item, (*place, str(key)))
    else:
        text = repr(value)
        yield f"{name}  {text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + '...'}"


def _statistics(tensor: Stored) -> str:
    array = np.asarray(tensor if isinstance(tensor, np.ndarray) else tensor.read())
    if not array.size or np.iscomplexobj(array) or array.dtype == bool:
        return ""
    array = array.astype(np.float64)
    wrong = int((~np.isfinite(array)).sum())
    told = f"mean {array.mean():.4g}  std {array.std():.4g}  min {array.min():.4g}  max {array.max():.4g}"
    return f"{wrong} of {array.size} are NaN or infinite" if wrong else told


def _guess(path: Path, options: Options) -> Iterator[str]:
    try:
        yield from understand(path, options).report()
    except InputError as error:
        yield f"not understood: {error}"
