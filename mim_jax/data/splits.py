"""Which folder of a data set is which split, and whether folders are splits or classes."""

from pathlib import Path

from mim_jax.data.listing import Listing, holds_images, subfolders
from mim_jax.data.telling import some, tell
from mim_jax.errors import InputError

TRAINING = ("train", "training")
EVALUATION = ("val", "valid", "validation", "test", "testing")

READINGS = ("folder", "classes", "splits")
"""What stands before the path of a folder: decide by its names; its folders are classes; they are splits."""


def split_folder(root: Path, split: str, reading: str = "folder") -> Path:
    """The folder of a split; `root` itself for the training split where no folder is named like a split.

    For "train" it is `train` or `training`, for the names of evaluation splits the first that exists: the one asked
    for, then these in order. Any other split is the folder of that name. Case does not matter.

    Raises InputError if `root` or the folder does not exist, or if one of the folders is named like a split and may as
    well be a class.
    """
    if not root.is_dir():
        raise InputError(f"The image folder {root} does not exist.")
    if reading == "classes":
        return _all_of_it(root, split)
    folders = subfolders(root)
    known = {name.lower(): name for name in reversed(folders)} | {name: name for name in folders}
    named = [known[name] for name in TRAINING + EVALUATION if name in known]
    wanted = _names(split)
    found = next((root / known[name] for name in wanted if name in known), None)
    if found is not None and found.name in named and reading == "folder":
        _check_splits(root, named, [name for name in folders if name.lower() not in TRAINING + EVALUATION])
    if found is not None:
        return found
    if split in TRAINING and not named and reading == "folder":
        return root
    raise InputError(
        f"{root} has no folder for the split {split!r}: looked for {', '.join(wanted)}; "
        f"it has {', '.join(named) or 'no folder named like a split'}."
        + (f" If {named[0]} is a class, give classes:{root}." if named and split in TRAINING else "")
    )


def training_folder(root: Path) -> Path | None:
    """The folder of the training split, if there is one."""
    folders = {name.lower(): name for name in reversed(subfolders(root))}
    return next((root / folders[name] for name in TRAINING if name in folders), None)


def _all_of_it(root: Path, split: str) -> Path:
    if split in TRAINING:
        return root
    raise InputError(f"The folders of {root} are classes; it has no split {split!r}, only 'train'.")


def _names(split: str) -> list[str]:
    for names in (TRAINING, EVALUATION):
        if split in names:
            return [split, *(name for name in names if name != split)]
    return [split]


def _check_splits(root: Path, named: list[str], others: list[str]) -> None:
    """Splits hold the same classes. A folder named like one, beside others that are like it, may be a class."""
    others = [name for name in others if holds_images(root / name)]
    if not others:
        return
    if _doubtful(root, named, others):
        raise InputError(
            f"{root} has {some(named)}, which could be a split or a class, beside {some(others)}: "
            f"give classes:{root} if all of them are classes, or splits:{root} if {some(named)} is a split."
        )
    tell(f"{root}: {some(others)} beside the splits {some(named)} are left out, unless asked for as a split")


def _doubtful(root: Path, named: list[str], others: list[str]) -> bool:
    """Whether folders named like splits hold no classes, or only one does, and other ones than all folders beside."""
    inner = [classes for name in named if (classes := _classes(root / name))]
    beside = [_classes(root / name) for name in others]
    return not inner or (len(inner) == 1 and all(beside) and not any(classes & inner[0] for classes in beside))


def _classes(folder: Path) -> set[str]:
    """Names of the folders with images in a folder; none where images lie beside them."""
    loose, labelled = Listing(folder).firsts()
    return set() if loose or not labelled else {name for name in subfolders(folder) if holds_images(folder / name)}
