"""All that is stated of a checkpoint, put together."""

from collections.abc import Mapping
from typing import Any

from mim_jax.weights.files.checkpoint_file import CheckpointFile
from mim_jax.weights.layouts import Layout
from mim_jax.weights.stated.hugging_face import read_hugging_face
from mim_jax.weights.stated.preprocessor import read_preprocessor
from mim_jax.weights.stated.statements import Statements, of_user
from mim_jax.weights.stated.timm import is_timm, read_timm
from mim_jax.weights.stated.training import read_training


def read_statements(
    file: CheckpointFile, layout: Layout, arrays: Mapping[str, tuple[int, ...]], stated: Mapping[str, Any]
) -> Statements:
    """What the training's arguments state, a configuration beside the weights, and the user, who has the last word.

    `arrays` are the shapes of the file by our paths. Raises InputError for what cannot be read or kept.
    """
    by_user = of_user(stated, layout.family)
    settled = by_user.values.keys()
    told = read_training(file.content, arrays) if layout.family == "vision_transformer" else Statements()
    if file.config is not None:
        read = read_timm if is_timm(file.config) else read_hugging_face
        told |= read(file.config, layout.family, settled)
    if file.preprocessor is not None:
        told |= read_preprocessor(file.preprocessor, layout.family, settled)
    return told | by_user
