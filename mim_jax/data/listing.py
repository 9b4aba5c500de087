"""Finding image files below a folder: every picture once, and what is left out is counted."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mim_jax.data.telling import some, tell
from mim_jax.errors import InputError

USUAL_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
ENDINGS = frozenset(USUAL_ENDINGS) | {
    ".jpe", ".jfif", ".apng", ".dib", ".avif", ".avifs", ".tga", ".pcx", ".qoi", ".sgi",
    ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx",
}  # fmt: skip
"""Endings of files that are taken for images, in lower case."""

NOT_OURS = frozenset({"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"})
"""Folders that systems put between those of users."""

HIDDEN, BROKEN, AGAIN = "hidden", "links that lead nowhere", "links to folders that are read already"

Identity = tuple[int, int]
"""Device and number of a folder, which all of its names share."""


class Listing:
    """Names of images below `top`. Folders behind links are read last, and only if they were not yet.

    Attributes:
        top: the folder that everything is below of.
        left_out: number of entries that are no images, by kind.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        self.left_out: Counter[str] = Counter()
        self._read: set[Identity] = {_identity(path) for path in (top, *top.resolve().parents)}
        self._links: list[tuple[str, str]] = []

    def read(self) -> tuple[list[str], dict[str, list[str]]]:
        """Paths of the images that lie in `top` itself, and of those below each of its folders, in order."""
        loose, folders, links = self._scan(self.top)
        groups = {name: list(self._below(name, self.top / name)) for name in folders}
        groups |= {os.path.basename(link): [] for link in links}
        self._links = [(os.path.basename(link), link) for link in links] + self._links
        while self._links:
            group, link = self._links.pop(0)
            if _identity(link) in self._read:
                self.left_out[AGAIN] += 1
            else:
                groups[group] += self._below(group, link)
        return loose, {name: groups[name] for name in sorted(groups)}

    def firsts(self) -> tuple[str | None, str | None]:
        """An image that lies in `top` itself, and one below its folders, looked for only until they are found."""
        loose, folders, links = self._scan(self.top)
        self._links += [("", link) for link in links]
        inside = (image for name in folders for image in self._below("", self.top / name))
        return next(iter(loose), None), next(inside, None) or next(self._behind_links(), None)

    def _behind_links(self) -> Iterator[str]:
        while self._links:
            _, link = self._links.pop(0)
            if _identity(link) not in self._read:
                yield from self._below("", link)

    def _below(self, group: str, folder: str | Path) -> Iterator[str]:
        self._read.add(_identity(folder))
        images, folders, links = self._scan(folder)
        self._links += [(group, link) for link in links]
        yield from images
        for name in folders:
            if _identity(path := os.path.join(folder, name)) not in self._read:
                yield from self._below(group, path)

    def _scan(self, folder: str | Path) -> tuple[list[str], list[str], list[str]]:
        """Images, names of folders and links to folders in one folder."""
        images, folders, links = [], [], []
        for entry in _entries(folder):
            if _is_hidden(entry.name):
                self.left_out[HIDDEN] += 1
            elif entry.is_dir():
                links.append(entry.path) if entry.is_symlink() else folders.append(entry.name)
            elif not entry.is_file():
                self.left_out[BROKEN if entry.is_symlink() else "no files"] += 1
            elif has_ending(entry.name):
                images.append(entry.path)
            else:
                self.left_out[os.path.splitext(entry.name)[1].lower() or "without an ending"] += 1
        return sorted(images), sorted(folders), sorted(links)

    def tell(self, beside: Path | None = None) -> None:
        """Says what was left out, if anything; images in the folder of all splits, `beside` them, too."""
        kinds = [f"{count} {kind}" for kind, count in self.left_out.most_common()]
        loose = [entry.name for entry in _entries(beside) if has_ending(entry.name)] if beside else []
        if kinds:
            tell(f"{self.top}: {self.left_out.total()} files or folders left out: {some(kinds, 8)}")
        if loose:
            tell(f"{beside}: {len(loose)} images beside the folders of splits left out, the first is {min(loose)}")


def subfolders(folder: str | Path) -> list[str]:
    """Names of the folders in a folder, those behind links too, sorted."""
    return sorted(entry.name for entry in _entries(folder) if not _is_hidden(entry.name) and entry.is_dir())


def has_ending(name: str) -> bool:
    """Whether a name ends like an image's."""
    return os.path.splitext(name)[1].lower() in ENDINGS


def holds_images(folder: Path) -> bool:
    """Whether there is an image anywhere below a folder."""
    return any(Listing(folder).firsts())


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in NOT_OURS


def _identity(path: str | Path) -> Identity:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(f"Cannot list the folder {error.filename}: {error.strerror}.") from error
