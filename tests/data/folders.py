"""Small folders of pictures, and what a source shows of them."""

import os
from pathlib import Path

from PIL import Image

from mim_jax.data import Source


def pictures(root: Path, *names: str) -> None:
    """Writes a small picture of each name below a folder."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)


def shown(source: Source, root: Path) -> list[str]:
    """Names of all images of a source, relative to a folder."""
    return [os.path.relpath(source.describe(i), root) for i in range(len(source))]


def labels(source: Source) -> list[int]:
    """Labels of all images of a source."""
    return [source[i]["label"] for i in range(len(source))]
