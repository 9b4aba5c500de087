"""Analysis of a model in hand, for notebooks and scripts."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mim_jax.analysis.result import Analysis
from mim_jax.errors import InputError
from mim_jax.experiments.analyze import analyze_encoder
from mim_jax.experiments.analyze_settings import resolve_analyze
from mim_jax.experiments.given_images import fit, given_source
from mim_jax.experiments.placed_encoder import PlacedEncoder
from mim_jax.training.sharding import make_mesh
from mim_jax.weights.loading import load
from mim_jax.weights.model import Model


def analyze(
    model: Model | str | Path,
    images: object,
    *,
    name: str = "",
    labels: Sequence[int] | Sequence[str] | np.ndarray | None = None,
    batch_size: int = 32,
    pictures: int = 3,
    statistics: Mapping[str, Any] | None = None,
    representations: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Analysis:
    """How a model attends and what its features are like.

    Args:
        model: from `mim_jax.load`, or a path that it reads.
        images: pixels 0..255 as uint8 `[n, h, w, c]` (an array of NumPy, JAX or PyTorch; also `[n, c, h, w]` where only
            one of both fits); a list of PIL pictures, of arrays or of paths; or what `mim_jax.open_source` opens (a
            folder, "digits", ...), of which the test split is taken. They are resized and cropped as in evaluation
            unless they already have the model's size.
        name: what the tables call the model; its own name if not given.
        labels: of the images, for pictures: numbers from 0, or names; a source has its own.
        batch_size: images at a time.
        pictures: number of images that attention maps are drawn of.
        statistics: changes to `StatisticsOf`, such as `{"until": ("attention_distance=0.5",)}`.
        representations: changes to `RepresentationsOf`.
        data: changes to `Data`, such as `{"crop_fraction": 1.0}`.

    Returns:
        An `Analysis`: its `df` is the tidy table, `plot.attention_distance()` and the like draw, `report("x.html")`
        writes a page, `compare(other)` puts two side by side.

    Raises:
        InputError: if images do not fit or it is not sure what they are, such as floats, or a name is unknown.
    """
    model = model if isinstance(model, Model) else load(model)
    name = name or model.name or "encoder"
    source = given_source(images, labels, (data or {}).get("test_split", "test"), model.preprocessing)
    if len(source) < 2:
        raise InputError(f"'{name}' gets {len(source)} images; an interval needs two at least")
    transform = {"evaluation_transform": "none"} if fit(source, model.preprocessing.image_size) else {}
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
