"""Pictures of what the objective does, on the same images and masks throughout a run."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mim_jax.analysis.figures import image_panels
from mim_jax.analysis.style import save_figure
from mim_jax.data.preprocessing import denormalise
from mim_jax.experiments.evaluation import FrozenFeatures, on_host
from mim_jax.experiments.learner import Learner
from mim_jax.experiments.plan import make_prepare
from mim_jax.experiments.settings import Method
from mim_jax.models.build import Parameters
from mim_jax.training.metrics import Writers
from mim_jax.training.sharding import replicated

MASK_SEED = 2
"""Seed of the fixed masks, as in MAE's demonstration."""


class PanelWriter:
    """Writes a panel as a figure and into the metric writers."""

    def __init__(self, learner: Learner, frozen: FrozenFeatures, writers: Writers, workdir: Path):
        self.learner, self.frozen, self.writers, self.workdir = learner, frozen, writers, workdir

    @functools.cached_property
    def _batch(self) -> dict[str, Any]:
        """The first test images, with their masks."""
        settings = self.learner.settings
        first = on_host(next(self.frozen.batches("test")))
        shown = {name: jnp.asarray(first[name][: settings.run.panel_images]) for name in ("image", "label")}
        batch = make_prepare(self.learner.preprocessing)(shown)
        return jax.device_get(self.learner.objective.draw(batch, jax.random.key(MASK_SEED)))

    @functools.cached_property
    def _panel(self) -> Any:
        preprocessing = self.learner.preprocessing

        def panel(parameters: Parameters, batch: dict[str, Any]) -> Float[Array, "b t h w c"]:
            images = self.learner.objective.panel(parameters, batch)
            return denormalise(images, preprocessing.mean, preprocessing.std).clip(0, 1)

        return jax.jit(panel, out_shardings=replicated(self.learner.mesh))

    def write(self, step: int, parameters: Parameters) -> None:
        """Draws the panel of these parameters."""
        images = to_uint8(self._panel(parameters, self._batch))
        if jax.process_index() != 0:
            return
        titles = self.learner.objective.panel_titles
        figure = image_panels(images, titles, f"step {step:,} · {panel_caption(self.learner.settings.method)}")
        save_figure(figure, self.workdir / "figures", f"panels_{step:08d}")
        rows, columns, height, width, channels = images.shape
        sheet = images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
        self.writers.write_image(step, "panels", sheet)


def panel_caption(method: Method) -> str:
    """What there is to know of the pictures of a method."""
    if method.name == "supervised":
        drawn = method.supervised
        return f"erasing {drawn.erasing:.0%}, mixup {drawn.mixup:g}, cutmix {drawn.cutmix:g}"
    caption = f"mask ratio {method.mask_ratio:.0%}"
    if method.norm_pix_loss and method.name != "simmim":
        caption += " · predictions carry the mean and deviation of the original patch"
    if method.target_window and method.name == "simmim":
        caption += " · predictions carry the mean and deviation of the pixels around"
    return caption


def to_uint8(images: Float[Array | np.ndarray, "r t h w c"]) -> UInt8[np.ndarray, "r t h w c"]:
    """Images in 0..1 as uint8."""
    return np.round(np.asarray(images) * 255).astype(np.uint8)
