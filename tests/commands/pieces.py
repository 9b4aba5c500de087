"""Pieces of Python that the documentation shows, made into one program a page."""

from pathlib import Path

from tests.commands.shown import pieces_of_python

START = """
import jax, numpy as np
random = np.random.default_rng(0)
key = jax.random.key(0)
pixels = lambda *shape: random.integers(0, 256, shape, dtype=np.uint8)
"""

NEEDS = {
    "README.md": ("images = pixels(4, 64, 64, 3)", "images = random.standard_normal((1, 224, 224, 3), np.float32)"),
    "docs/analysis.md": (
        "import mim_jax; images = pixels(4, 64, 64, 3); other = mim_jax.load('dino_vitbase16_pretrain.pth')\n"
        "query, key = random.standard_normal((2, 2, 3, 197, 8), np.float32)",
    ),
    "docs/models.md": ("images = random.standard_normal((1, 192, 192, 3), np.float32)",),
    "docs/weights.md": ("images = pixels(4, 64, 64, 3)",),
}
"""What a page says in words that a piece needs."""


def python_of(name: str, page: Path) -> str:
    """The pieces of a page, one after the other, each behind what it needs; "" if there are none."""
    pieces = pieces_of_python(page)
    needs = NEEDS.get(name, ())
    parts = [f"{needs[place] if place < len(needs) else ''}\n{piece}" for place, piece in enumerate(pieces)]
    return "\n".join([START, *parts]) if pieces else ""
