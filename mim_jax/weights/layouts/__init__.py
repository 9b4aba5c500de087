"""The layouts of checkpoints, as tables."""

from mim_jax.weights.layouts import hugging_face, swin, vit
from mim_jax.weights.layouts.layout import Layout

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (*vit.LAYOUTS, *hugging_face.LAYOUTS, *swin.LAYOUTS)}
"""Layout name to layout, in the order in which they are tried."""
