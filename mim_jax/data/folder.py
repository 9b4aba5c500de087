"""Images as files, and folders of them with or without classes."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from mim_jax.data.listing import ENDINGS, USUAL_ENDINGS, Listing, subfolders
from mim_jax.data.record import CorruptImage, Record, decode_image
from mim_jax.data.splits import split_folder, training_folder
from mim_jax.data.telling import some, tell
from mim_jax.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ImageFiles:
    """A source over image files, decoded to RGB when they are read.

    Attributes:
        files: path of every image.
        labels: one integer per image, -1 for none.
        class_names: name of every label, empty without labels.
    """

    files: list[str]
    labels: Int32[np.ndarray, " b"]
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Record:
        file = self.files[index]
        try:
            with open(file, "rb", buffering=0) as opened:
                data = opened.read()
        except OSError as error:
            raise CorruptImage(file, error) from error
        return {"image": decode_image(data, file), "label": int(self.labels[index])}

    def __repr__(self) -> str:
        return f"ImageFiles({len(self)} images from {self.files[0]} on, {classes_in_words(self.class_names)})"

    def describe(self, index: int) -> str:
        """Path of a record."""
        return self.files[index]


def classes_in_words(names: tuple[str, ...]) -> str:
    """How many classes there are, and the first of them."""
    return f"{len(names)} classes: {some(list(names))}" if names else "no labels"


def unlabelled(files: list[str]) -> ImageFiles:
    """Images without classes."""
    return ImageFiles(files, np.full(len(files), -1, np.int32))


def open_folder(root: Path, split: str, reading: str = "folder") -> ImageFiles:
    """Images of `<root>/<split>/<class>/`, `<root>/<class>/`, `<root>/<split>/` or `<root>/`, in sorted order.

    `split_folder` tells which folder is the split's. Files under a class may be nested. Links are followed, but no
    folder is read twice. What is left out is told: hidden files, files of other endings, links that lead nowhere.
    Labels number the class folders of the training split (or of the folder itself where there is none) in sorted
    order, those without images too. Raises `InputError` where a folder is missing, has no images, or mixes images with
    class folders.
    """
    folder = split_folder(root, split, reading)
    listing = Listing(folder)
    loose, groups = listing.read()
    listing.tell(beside=root if root != folder else None)
    labelled = sum(map(len, groups.values()))
    _check_images(folder, next(iter(loose), None), next((files[0] for files in groups.values() if files), None))
    if not labelled:
        return unlabelled(loose)
    names = _class_names(root, folder)
    _tell_classes(folder, groups, names)
    return _labelled(groups, names, folder)


def check_folder(root: Path, split: str, reading: str = "folder", *, needs_labels: bool = False) -> None:
    """Raises the InputError that `open_folder` would, as far as the first image of every folder tells."""
    folder = split_folder(root, split, reading)
    loose, labelled = Listing(folder).firsts()
    _check_images(folder, loose, labelled)
    if needs_labels and loose:
        raise InputError(f"The images of {folder} have no labels: put them into one folder a class.")


def _check_images(folder: Path, loose: str | None, labelled: str | None) -> None:
    if loose is None and labelled is None:
        more = len(ENDINGS) - len(USUAL_ENDINGS)
        raise InputError(
            f"No images in {folder}: looked for {' '.join(USUAL_ENDINGS)} and {more} more endings, also in its folders."
        )
    if loose is not None and labelled is not None:
        raise InputError(
            f"{folder} has images beside class folders, {os.path.basename(loose)} beside "
            f"{os.path.relpath(labelled, folder)}: move the loose ones into a class, or into another folder."
        )


def _class_names(root: Path, folder: Path) -> tuple[str, ...]:
    """Classes are numbered as in training, also where another split lacks some of them."""
    training = training_folder(root) if folder != root else None
    names = [subfolders(path) for path in (training, folder) if path is not None]
    return tuple(next(filter(None, names)))


def _tell_classes(folder: Path, groups: Mapping[str, list[str]], names: tuple[str, ...]) -> None:
    empty = [name for name in names if not groups.get(name)]
    if empty:
        tell(f"{folder}: {len(empty)} of {len(names)} classes have no images, and count all the same: {some(empty)}")
    by_case: dict[str, list[str]] = {}
    for name in names:
        by_case.setdefault(name.lower(), []).append(name)
    alike = [" and ".join(same) for same in by_case.values() if len(same) > 1]
    if alike:
        tell(f"{folder}: classes whose names differ by case only: {some(alike)}")


def _labelled(groups: Mapping[str, list[str]], class_names: tuple[str, ...], folder: Path) -> ImageFiles:
    unknown = sorted(name for name, files in groups.items() if files and name not in class_names)
    if unknown:
        raise InputError(
            f"{folder} has class folders that the training split lacks: {some(unknown)}; training has "
            f"{some(list(class_names))}."
        )
    files = [file for name in class_names for file in groups.get(name, [])]
    counts = [len(groups.get(name, [])) for name in class_names]
    return ImageFiles(files, np.repeat(np.arange(len(counts), dtype=np.int32), counts), class_names)
