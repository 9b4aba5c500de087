"""Where weights may be written: nothing that is there is replaced unasked, nor what is read; nothing here needs JAX."""

from pathlib import Path

from mim_jax.errors import InputError
from mim_jax.weights.description import DESCRIPTION, STEPS

EXPORTED = (".safetensors", ".pth", ".pt")
"""Endings of files of another code that can be written."""


def check_output(folder: Path, overwrite: bool) -> None:
    """Raises InputError if a model directory may not be written here."""
    if folder.is_symlink() and not folder.exists():
        raise InputError(f"{folder} is a link to nothing; choose another folder")
    if not folder.exists():
        return
    if not (folder / DESCRIPTION).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and is no model directory; choose another folder")
    if (folder / DESCRIPTION).is_file() and not overwrite:
        raise InputError(f"{folder} holds a model already; choose another folder, or --overwrite")
    if (folder / STEPS).exists():
        raise InputError(f"{folder} is the folder of a run; choose another folder")


def check_export(file: Path, overwrite: bool) -> None:
    """Raises InputError if no file of weights may be written here."""
    check_ending(file)
    if file.is_dir():
        raise InputError(f"{file} is a folder; name a file")
    if file.exists() and not overwrite:
        raise InputError(f"{file} is there already; choose another name, or --overwrite")


def check_ending(file: Path) -> None:
    """Raises InputError for a file whose ending names no kind that can be written."""
    if file.suffix not in EXPORTED:
        raise InputError(f"{file} must end in {' or '.join(EXPORTED[:2])}")


def check_apart(source: Path, output: Path) -> None:
    """Raises InputError if what is written would take the place of what is read."""
    here, there = source.resolve(), output.resolve()
    if here.is_relative_to(there):
        raise InputError(f"{output} {'is' if here == there else 'holds'} what is to be read; choose another output")
    if there.is_relative_to(here) and there.exists():
        raise InputError(f"{output} is a part of what is to be read; choose another output")
