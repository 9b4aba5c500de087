"""Model directories: `model.json`, which says what a model is, and its parameters beside it.

A converted model has its parameters in `parameters.safetensors`, under our paths; the workdir of a run in its
checkpoints. Both are read by `read_model_directory`.
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mim_jax.data.preprocessing import Preprocessing
from mim_jax.errors import InputError
from mim_jax.models.build import FAMILIES, AnyEncoderConfig, family
from mim_jax.paths import local_path
from mim_jax.pretraining.objective import Objective
from mim_jax.weights.description import DESCRIPTION, FORMAT, PARAMETERS, read_description
from mim_jax.weights.files.safetensors_file import read_safetensors
from mim_jax.weights.files.safetensors_writing import write_in_place
from mim_jax.weights.files.tensors import StoredTensor
from mim_jax.weights.methods import describe_method, make_objective
from mim_jax.weights.model import Model, parameter_shapes
from mim_jax.weights.outputs import check_output


def describe(
    encoder: AnyEncoderConfig,
    objective: Objective | None,
    preprocessing: Preprocessing,
    *,
    name: str,
    origin: Mapping[str, Any],
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """What stands in `model.json`; `parameters` says where they lie."""
    return {
        "format": FORMAT,
        "family": family(encoder),
        "name": name,
        "encoder": dataclasses.asdict(encoder),
        "method": describe_method(objective),
        "preprocessing": dataclasses.asdict(preprocessing),
        "origin": dict(origin),
        "parameters": dict(parameters),
    }


def write_model_directory(
    folder: Path,
    description: Callable[[], dict[str, Any]],
    arrays: Mapping[str, tuple[np.dtype, tuple[int, ...], Callable[[], np.ndarray]]],
    *,
    overwrite: bool = False,
) -> None:
    """Writes a model directory whole or not at all; arrays are made a few at a time, the description last.

    Raises InputError if the folder is there already (unless it is a model directory and `overwrite` is set), or if the
    disk refuses.
    """
    check_output(folder, overwrite)
    new, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{state}") for state in ("new", "old"))
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        new.mkdir(parents=True)
        write_in_place(new / PARAMETERS, arrays, {"format": "mim_jax"})
        (new / DESCRIPTION).write_text(json.dumps(description(), indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise InputError(
            f"cannot write {folder}: {error.strerror or error}; make room there or choose another folder"
        ) from error
    finally:
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # it is not empty where all went well
                parent.rmdir()


def save_model(model: Model, folder: str | Path, *, overwrite: bool = False) -> None:
    """Writes a model directory from a model in memory."""
    description = lambda: describe(
        model.encoder_config,
        model.objective,
        model.preprocessing,
        name=model.name,
        origin=model.origin | {"notes": list(model.notes)},
        parameters={"file": PARAMETERS},
    )
    arrays = {path: np.asarray(leaf) for path, leaf in flatten_dict(model.parameters, sep="/").items()}
    entries = {path: (a.dtype, a.shape, lambda a=a: a) for path, a in arrays.items()}
    write_model_directory(local_path(folder), description, entries, overwrite=overwrite)


def read_model_directory(folder: Path) -> Model:
    """The model in a model directory or in the workdir of a run.

    Raises InputError for a description or parameters that are missing, cannot be read or do not fit each other.
    """
    description = read_description(folder)
    try:
        encoder = FAMILIES[description["family"]][0](**_tuples(description["encoder"]))
        objective = make_objective(_tuples(description.get("method")), encoder)
        preprocessing = Preprocessing(**_tuples(description["preprocessing"]))
        place = description["parameters"]
        name, origin = description["name"], dict(description["origin"])
        notes = tuple(map(str, origin.pop("notes", ())))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / DESCRIPTION} does not describe a model: {error}; write it anew by the command that made it"
        ) from error
    parameters = _read_parameters(folder, place, parameter_shapes(encoder, objective))
    return Model(encoder, parameters, preprocessing, objective, name, origin, notes)


def _tuples(value: object) -> Any:
    """Lists, which JSON has, as tuples, which configurations have."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _read_parameters(folder: Path, place: Mapping[str, Any], shapes: dict[str, Any]) -> dict[str, Any]:
    if "file" in place:
        return _read_file(folder / Path(place["file"]).name, shapes)
    from mim_jax.training.checkpoint_reading import read_step

    _, _, part = place["key"].partition("/")
    wanted = shapes[part] if part else shapes
    read = jax.device_get(read_step(folder / place["folder"], None, wanted, place["key"]))
    return {part: read} if part else read


def _read_file(path: Path, shapes: dict[str, Any]) -> dict[str, Any]:
    stored, _ = read_safetensors(path)
    wanted = {name: leaf.shape for name, leaf in flatten_dict(shapes, sep="/").items()}
    different = [name for name in sorted({*stored, *wanted}) if _shape(stored.get(name)) != wanted.get(name)]
    if different:
        raise InputError(
            f"{path} does not fit the model.json beside it: {different[0]} is {_shape(stored.get(different[0]))} in "
            f"the one, {wanted.get(different[0])} in the other; convert it again"
        )
    return unflatten_dict({name: np.array(stored[name].read()) for name in wanted}, sep="/")


def _shape(tensor: StoredTensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)
