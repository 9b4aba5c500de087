"""The conversion command: a checkpoint in, a model directory (or a file of another code) out."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

from mim_jax.pretraining.mae import MaskedAutoencoder
from mim_jax.weights.adapting import adapt
from mim_jax.weights.description import PARAMETERS
from mim_jax.weights.files.checkpoint_file import CheckpointFile, open_checkpoint
from mim_jax.weights.files.hashing import hashing
from mim_jax.weights.importing import Import, understand
from mim_jax.weights.model import Model
from mim_jax.weights.model_directory import describe, save_model, write_model_directory
from mim_jax.weights.options import Options
from mim_jax.weights.outputs import check_output


def convert(
    source: str | Path | CheckpointFile,
    output: Path,
    options: Options = Options(),
    *,
    overwrite: bool = False,
    digest: Callable[[], str] | None = None,
) -> Import:
    """Writes a model directory from a checkpoint, a few arrays at a time; returns what was understood of it.

    `digest` waits for the SHA-256 of the checkpoint's files where that is worked out already (see `hashing`).

    Raises InputError, leaving nothing behind, for whatever cannot be read, does not fit or cannot be written.
    """
    check_output(output, overwrite)
    with _hashed(source, digest) as (file, digest):
        understood = understand(file, options)
        architecture = understood.architecture
        arrays = {
            entry.path: (understood.dtype(entry), entry.shape, functools.partial(understood.read, entry))
            for entry in understood.entries
        }
        description = lambda: describe(
            architecture.encoder,
            architecture.objective,
            architecture.preprocessing,
            name=understood.name,
            origin=understood.origin | {"sha256": digest(), "notes": list(understood.notes)},
            parameters={"file": PARAMETERS},
        )
        write_model_directory(output, description, arrays, overwrite=overwrite)
    return understood


@contextlib.contextmanager
def _hashed(
    source: str | Path | CheckpointFile, digest: Callable[[], str] | None
) -> Generator[tuple[CheckpointFile, Callable[[], str]]]:
    """A checkpoint, opened unless it is open, and what waits for its SHA-256."""
    file = source if isinstance(source, CheckpointFile) else open_checkpoint(source)
    with contextlib.nullcontext(digest) if digest else hashing(file.files) as digest:
        yield file, digest


def adapted(model: Model, changes: Mapping[str, Any], *, keep_head: bool = True) -> Model:
    """The model for another image size or window, with or without what stands behind its encoder.

    `changes` are arguments of `adapting.adapt`. A decoder of MAE, which has positions of its own, is left out when the
    grid changes.
    """
    result = adapt(model.encoder_config, model.parameters["encoder"], **changes)
    objective, notes = model.objective if keep_head else None, (*model.notes, *result.notes)
    if isinstance(objective, MaskedAutoencoder) and result.config.grid != model.encoder_config.grid:
        objective, notes = None, (*notes, "left out the decoder, whose positions belong to another grid")
    if objective is not None:
        objective = dataclasses.replace(objective, encoder_config=result.config)
    return dataclasses.replace(
        model,
        encoder_config=result.config,
        parameters=(model.parameters if objective is not None else {}) | {"encoder": result.parameters},
        preprocessing=dataclasses.replace(model.preprocessing, image_size=result.config.image_size),
        objective=objective,
        notes=notes,
    )


def convert_adapted(
    source: str | Path | CheckpointFile,
    output: Path,
    options: Options,
    changes: Mapping[str, Any],
    *,
    keep_head: bool,
    overwrite: bool = False,
    digest: Callable[[], str] | None = None,
) -> Model:
    """`convert` with a model that is changed on the way, which takes all of it into memory."""
    check_output(output, overwrite)
    with _hashed(source, digest) as (file, digest):
        model = adapted(understand(file, options).model(), changes, keep_head=keep_head)
        model = dataclasses.replace(model, origin=model.origin | {"sha256": digest()})
        save_model(model, output, overwrite=overwrite)
    return model
