"""Analysis of a model in hand, for notebooks and scripts."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mim_jax.analysis.result import Analysis
from mim_jax.data.arrays import ArraySource
from mim_jax.data.sources import Source, open_source
from mim_jax.errors import InputError
from mim_jax.experiments.analyze import analyze_encoder
from mim_jax.experiments.analyze_settings import resolve_analyze
from mim_jax.experiments.placed_encoder import PlacedEncoder
from mim_jax.training.sharding import make_mesh
from mim_jax.weights.model import Model

Images = np.ndarray | Source | str | Path


def analyze(
    model: Model,
    images: Images,
    *,
    name: str = "",
    labels: Sequence[int] | None = None,
    batch_size: int = 32,
    pictures: int = 3,
    statistics: Mapping[str, Any] | None = None,
    representations: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Analysis:
    """How a model attends and what its features are like.

    Args:
        model: from `mim_jax.load`.
        images: pixels 0..255 as uint8 `[n, h, w, c]`, or what `mim_jax.open_source` opens (a folder, "digits", ...),
            of which the test split is taken. They are resized and cropped as in evaluation unless they already have
            the model's size.
        name: what the tables call the model; its own name if not given.
        labels: of the images, for pictures; taken from the source if it has any.
        batch_size: images at a time.
        pictures: number of images that attention maps are drawn of.
        statistics: changes to `StatisticsOf`, such as `{"until": ("attention_distance=0.5",)}`.
        representations: changes to `RepresentationsOf`.
        data: changes to `Data`, such as `{"crop_fraction": 1.0}`.

    Returns:
        An `Analysis`: its `df` is the tidy table, `plot.attention_distance()` and the like draw, `report("x.html")`
        writes a page, `compare(other)` puts two side by side.

    Raises:
        InputError: if images do not fit, or a name is unknown.
    """
    name = name or model.name or "encoder"
    source = _source(images, labels, name, data or {})
    fits = isinstance(images, np.ndarray) and images.shape[1:3] == tuple(model.preprocessing.image_size)
    transform = {"evaluation_transform": "none"} if fits else {}
    settings = resolve_analyze(
        {
            "encoders": {name.replace("/", "_"): "a model in hand"},
            "data": {**transform, **(data or {})},
            "statistics": {"images": 0, **(statistics or {})},
            "representations": dict(representations or {}),
            "run": {"batch_size": batch_size, "pictures": pictures, "checkpoint_every": 0},
        }
    )
    efficiency = settings.efficiency
    mesh = make_mesh(efficiency.mesh_data, efficiency.mesh_fsdp, efficiency.mesh_tensor)
    (name,) = settings.encoders
    placed = PlacedEncoder(name, model, mesh, settings.data, efficiency, batch_size)
    with tempfile.TemporaryDirectory() as folder:
        return analyze_encoder(placed, settings, source, Path(folder))


def _source(images: Images, labels: Sequence[int] | None, name: str, data: Mapping[str, Any]) -> Source:
    if not isinstance(images, np.ndarray):
        return images if isinstance(images, Source) else open_source(str(images), data.get("test_split", "test"))
    if images.dtype != np.uint8 or images.ndim != 4:
        raise InputError(f"images must be uint8 [n, h, w, c], pixels 0..255, not {images.dtype} {list(images.shape)}")
    if len(images) < 2:
        raise InputError(f"'{name}' gets {len(images)} images; an interval needs two at least")
    known = np.full(len(images), -1) if labels is None else np.asarray(labels)
    names = () if labels is None else tuple(map(str, range(int(known.max()) + 1)))
    return ArraySource(images, known, names, "the images given")
