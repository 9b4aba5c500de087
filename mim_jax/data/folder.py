"""Images as files: folders with or without classes, and list files."""

import dataclasses
import os
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from mim_jax.data.record import CorruptImage, Record, decode_image
from mim_jax.errors import InputError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".gif"})
TRAINING_FOLDERS = ("train", "training")
EVALUATION_FOLDERS = ("val", "valid", "validation", "test")


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

    def describe(self, index: int) -> str:
        """Path of a record."""
        return self.files[index]


def open_folder(root: str, split: str) -> ImageFiles:
    """Images of `<root>/<split>/<class>/`, `<root>/<class>/`, `<root>/<split>/` or `<root>/`, in sorted order.

    For "train" the folder is `train` or `training`, or `root` itself where no split folder exists. For "val",
    "valid", "validation" and "test" it is the first that exists: the one asked for, then these four in order.
    Any other split is the folder of that name. Files under a class may be nested; hidden ones are skipped.
    Labels number the class folders of the training split (or of the folder itself where there is none) in sorted
    order. Raises `InputError` where a folder is missing, has no images, or mixes images with class folders.
    """
    top = Path(root).expanduser()
    folder = _split_folder(top, split)
    loose, classes = _images_in(folder), {name: _images_below(folder / name) for name in _subfolders(folder)}
    labelled = sum(map(len, classes.values()))
    if not loose and not labelled:
        raise InputError(f"No images in {folder}: looked for {' '.join(sorted(EXTENSIONS))}, also in its folders.")
    if loose and labelled:
        raise InputError(
            f"{folder} has {len(loose)} images beside class folders with {labelled} images: "
            f"move the loose ones away, the first is {loose[0]}."
        )
    return _unlabelled(loose) if loose else _labelled(classes, _class_names(top, folder), folder)


def open_list(path: str, split: str) -> ImageFiles:
    """Images named in a text file, one `path[<TAB or space>label]` per line, relative to the file's folder.

    Labels are integers from 0. A line that ends in an image extension is all path, so paths may hold spaces.
    `{split}` in the path is replaced by the split; a path without it holds the training images only.
    Raises `InputError` for a missing or empty file, a missing first image, or a bad label.
    """
    file = check_list(path, split)
    text = file.read_text(encoding="utf-8", errors="surrogateescape")
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise InputError(f"The list file {file} is empty: write one image path per line.")
    return _listed(file, [_parse_line(line, f"{file}, line {number}") for number, line in lines])


def check_list(path: str, split: str) -> Path:
    """The list file of a split; raises InputError if there is none."""
    if "{split}" not in path and split not in TRAINING_FOLDERS:
        raise InputError(
            f"The list file {path} serves the split 'train' only, not {split!r}: "
            "name one file per split with {split} in the path, such as lists/{split}.txt."
        )
    file = Path(path.replace("{split}", split)).expanduser()
    if not file.is_file():
        raise InputError(f"The list file {file} does not exist.")
    return file


def check_folder(root: str, split: str, *, needs_labels: bool = False) -> None:
    """Raises InputError if a split has no folder or, where labels are needed, no folders of classes."""
    folder = _split_folder(Path(root).expanduser(), split)
    if needs_labels and not _subfolders(folder):
        raise InputError(f"{folder} has no labels: put the images into one folder for each class.")


def _split_folder(root: Path, split: str) -> Path:
    if not root.is_dir():
        raise InputError(f"The image folder {root} does not exist.")
    wanted = _folder_names(split)
    present = [name for name in TRAINING_FOLDERS + EVALUATION_FOLDERS if (root / name).is_dir()]
    for name in wanted:
        if (root / name).is_dir():
            return root / name
    if split in TRAINING_FOLDERS and not present:
        return root
    raise InputError(
        f"{root} has no folder for the split {split!r}: looked for {', '.join(wanted)}; "
        f"it has {', '.join(present) or 'no folder named like a split'}."
    )


def _folder_names(split: str) -> list[str]:
    for names in (TRAINING_FOLDERS, EVALUATION_FOLDERS):
        if split in names:
            return [split, *(name for name in names if name != split)]
    return [split]


def _has_extension(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in EXTENSIONS


def _is_image(name: str) -> bool:
    return _has_extension(name) and not name.startswith(".")


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _images_in(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if _is_image(entry.name) and not entry.is_dir())


def _images_below(folder: Path) -> list[str]:
    files = []
    for path, folders, names in os.walk(folder, followlinks=True, onerror=_cannot_list):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [f"{path}{os.sep}{name}" for name in sorted(filter(_is_image, names))]
    return files


def _cannot_list(error: OSError) -> None:
    raise InputError(f"Cannot list the folder {error.filename}: {error.strerror}.") from error


def _class_names(root: Path, folder: Path) -> tuple[str, ...]:
    """Classes are numbered as in training, also where another split lacks some of them."""
    training = [root / name for name in TRAINING_FOLDERS if folder != root and (root / name).is_dir()]
    names = [_subfolders(path) for path in [*training, folder]]
    return tuple(next(filter(None, names)))


def _labelled(classes: dict[str, list[str]], class_names: tuple[str, ...], folder: Path) -> ImageFiles:
    unknown = sorted(name for name, files in classes.items() if files and name not in class_names)
    if unknown:
        raise InputError(f"{folder} has class folders that the training split lacks: {', '.join(unknown[:5])}.")
    files = [file for name in class_names for file in classes.get(name, [])]
    counts = [len(classes.get(name, [])) for name in class_names]
    return ImageFiles(files, np.repeat(np.arange(len(counts), dtype=np.int32), counts), class_names)


def _unlabelled(files: list[str]) -> ImageFiles:
    return ImageFiles(files, np.full(len(files), -1, np.int32))


def _parse_line(line: str, place: str) -> tuple[str, int]:
    path, separator, label = line.rpartition("\t")
    if not separator:
        path, separator, label = ("", "", line) if _has_extension(line.strip()) else line.strip().rpartition(" ")
    if not separator:
        return label.strip(), -1
    if not label.strip().isdecimal():
        raise InputError(f"{place}: the label {label.strip()!r} is not a whole number from 0.")
    return path.strip(), int(label)


def _listed(list_file: Path, lines: list[tuple[str, int]]) -> ImageFiles:
    files = [os.path.join(list_file.parent, path) for path, _ in lines]
    labels = np.array([label for _, label in lines], np.int32)
    if not os.path.isfile(files[0]):
        raise InputError(f"{list_file} names {files[0]} first, which does not exist.")
    if (labels < 0).any() and (labels >= 0).any():
        unlabelled = files[int(np.argmax(labels < 0))]
        raise InputError(f"{list_file} has lines with and without a label; {unlabelled} has none.")
    return ImageFiles(files, labels, tuple(str(label) for label in range(labels.max() + 1)))
