"""The conversion command: a checkpoint in, a model directory (or a file of another code) out."""

import dataclasses
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mim_jax.pretraining.mae import MaskedAutoencoder
from mim_jax.weights.adapting import adapt
from mim_jax.weights.description import PARAMETERS
from mim_jax.weights.files.checkpoint_file import sha256_of
from mim_jax.weights.importing import Import, understand
from mim_jax.weights.model import Model
from mim_jax.weights.model_directory import describe, save_model, write_model_directory
from mim_jax.weights.options import Options
from mim_jax.weights.outputs import check_output


def convert(path: Path, output: Path, options: Options = Options(), *, overwrite: bool = False) -> Import:
    """Writes a model directory from a checkpoint, one array at a time; returns what was understood of it.

    Raises InputError, leaving nothing behind, for whatever cannot be read, does not fit or cannot be written.
    """
    check_output(output, overwrite)
    understood = understand(path, options)
    architecture = understood.architecture
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(sha256_of, understood.file.files)
        arrays = {
            entry.path: (understood.dtype(entry), entry.shape, lambda entry=entry: understood.read(entry))
            for entry in understood.entries
        }

        def description() -> dict[str, Any]:
            return describe(
                architecture.encoder,
                architecture.objective,
                architecture.preprocessing,
                name=understood.name,
                origin=understood.origin | {"sha256": digest.result(), "notes": list(understood.notes)},
                parameters={"file": PARAMETERS},
            )

        write_model_directory(output, description, arrays, overwrite=overwrite)
    return understood


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
    path: Path, output: Path, options: Options, changes: Mapping[str, Any], *, keep_head: bool, overwrite: bool = False
) -> Model:
    """`convert` with a model that is changed on the way, which takes all of it into memory."""
    check_output(output, overwrite)
    understood = understand(path, options)
    model = adapted(understood.model(), changes, keep_head=keep_head)
    origin = model.origin | {"sha256": sha256_of(understood.file.files), "notes": list(model.notes)}
    model = dataclasses.replace(model, origin=origin)
    save_model(model, output, overwrite=overwrite)
    return model
