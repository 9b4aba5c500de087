"""Whether a model computes what the same weights do in Hugging Face's `transformers`."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from mim_jax.models.build import Parameters
from mim_jax.models.swin import SwinConfig
from mim_jax.ops.masking import random_mask
from mim_jax.paths import local_path
from mim_jax.pretraining.lut import Lut
from mim_jax.pretraining.mae import MaskedAutoencoder
from mim_jax.pretraining.simmim import SimMIM
from mim_jax.pretraining.supervised import Supervised
from mim_jax.weights.model import Model
from mim_jax.weights.reference.running import library, load_reference, masking, run

MASKED_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Row:
    """How far two arrays differ: what they are, the largest difference, and that over the largest magnitude."""

    what: str
    largest: float
    relative: float


@dataclasses.dataclass(frozen=True)
class Verification:
    """A model beside its reference.

    Attributes:
        reference: class and version of the reference.
        rows: differences in the order of computation: embedded patches, every block (named as its parameters), tokens
            behind the final norm, and logits or reconstruction where both sides have them.
        tolerance: the largest relative difference that counts as none.
        notes: sentences about what was not compared.
    """

    reference: str
    rows: tuple[Row, ...]
    tolerance: float
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing differs."""
        return not self.begins

    @property
    def begins(self) -> str:
        """What differs first, where the fault is to be looked for; "" if nothing does."""
        return next((row.what for row in self.rows if not row.relative <= self.tolerance), "")

    @property
    def table(self) -> str:
        """Plain text: a line for every row, then the outcome."""
        width = max(len(row.what) for row in self.rows)
        head = f"{'':{width}}   largest  relative"
        lines = [f"{row.what:{width}}  {row.largest:8.1e}  {row.relative:8.1e}" for row in self.rows]
        outcome = f"differs from {self.begins} on" if self.begins else "agrees"
        return "\n".join([head, *lines, *self.notes, f"{outcome}: {self.reference}, tolerance {self.tolerance:g}"])


def verify(path: str | Path, model: Model, *, images: int = 2, seed: int = 0, tolerance: float = 1e-5) -> Verification:
    """Compares a model with the same weights in PyTorch, block by block, on random normalised images.

    A folder of Hugging Face is loaded by `transformers` itself, without any of our code and without the network. For
    any other file the reference is what `reference.counterpart` makes of the model.

    Args:
        path: the checkpoint that the model came from.
        model: the model.
        images: how many images.
        seed: of the images and of what masks them.
        tolerance: the largest difference, over the largest magnitude, that counts as none.

    Raises InputError if torch or transformers is missing, or if there is nothing to compare with.
    """
    reference, notes = load_reference(local_path(path), model)
    mask_ratio = getattr(reference.config, "mask_ratio", 0.0)
    inputs = _inputs(model, masking(reference), images, np.random.default_rng(seed))
    if not mask_ratio and "noise" in inputs:  # ours then keeps the order, whatever the noise
        inputs["noise"].sort()
    theirs = run(reference, inputs)
    ours = _run(model, inputs, mask_ratio)
    rows = tuple(_row(what, ours[what], theirs[what]) for what in theirs if what in ours)
    name = f"{type(reference).__name__} of transformers {library('transformers').__version__}"
    return Verification(name, rows, tolerance, notes)


def _inputs(model: Model, masked_by: str, images: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """`image` `[b, h, w, c]`, and `noise` or `mask` `[b, n]` where both sides are masked by such."""
    config = model.encoder_config
    batch = {"image": random.standard_normal((images, *config.image_size, config.channels), np.float32)}
    drawn = random.random((images, config.grid[0] * config.grid[1]), np.float32)
    if masked_by == "noise":
        return batch | {"noise": drawn}
    if masked_by == "mask" and config.mask_token and not isinstance(model.objective, Supervised):
        return batch | {"mask": (drawn < MASKED_SHARE).astype(np.float32)}
    return batch


def _run(model: Model, inputs: dict[str, np.ndarray], mask_ratio: float) -> dict[str, Any]:
    """What a model computes on the way, by the names that `reference.running.run` has."""

    def compute(parameters: Parameters, inputs: dict[str, jax.Array]) -> dict[str, Any]:
        return _compute(dataclasses.replace(model, parameters=parameters), inputs, mask_ratio)

    with jax.default_matmul_precision("highest"):
        return jax.jit(compute)(model.parameters, inputs)


def _compute(model: Model, inputs: dict[str, jax.Array], mask_ratio: float) -> dict[str, Any]:
    given = {"mask": inputs["mask"]} if "mask" in inputs else {}
    if "noise" in inputs:
        given["keep"] = random_mask(inputs["noise"], mask_ratio).keep
    names = ["embedded patches", *_block_names(model)]
    out = model.encode(inputs["image"], taps=tuple(range(len(names))), **given)
    return {**{name: tap.tokens for name, tap in zip(names, out.taps)}, "tokens": out.tokens, **_outcome(model, inputs)}


def _block_names(model: Model) -> list[str]:
    depths, stages = model.encoder_config.depths, isinstance(model.encoder_config, SwinConfig)
    fronts = [f"encoder/stage{stage}/blocks" if stages else "encoder/blocks" for stage in range(len(depths))]
    return [f"{front}/{block}" for front, depth in zip(fronts, depths) for block in range(depth)]


def _outcome(model: Model, inputs: dict[str, jax.Array]) -> dict[str, Any]:
    """Logits, or a reconstruction from what was not masked."""
    objective = model.objective.mae if isinstance(model.objective, Lut) else model.objective
    if isinstance(objective, Supervised):
        return {"logits": model.logits(inputs["image"])}
    if not isinstance(objective, MaskedAutoencoder | SimMIM):
        return {}
    needs = "noise" if isinstance(objective, MaskedAutoencoder) else "mask"
    if needs not in inputs:
        return {}
    return {"reconstruction": objective.reconstruct(model.parameters, inputs).prediction}


def _row(what: str, ours: Array, theirs: np.ndarray) -> Row:
    one, other = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if one.shape != other.shape:
        return Row(what, np.inf, np.inf)
    largest = float(np.abs(one - other).max())
    return Row(what, largest, largest / max(float(np.abs(other).max()), float(np.finfo(np.float32).tiny)))
