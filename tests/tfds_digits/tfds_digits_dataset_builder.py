"""Two splits of one-coloured pictures: image number i has the value i everywhere and the label i % 3."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SIZES = {"train": 10, "test": 4}


class Builder(tfds.core.GeneratorBasedBuilder):
    """One-coloured pictures of 5x7 and 6x7 pixels."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "first"}

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["apple", "pear", "plum"]),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(size) for split, size in SIZES.items()}

    def _generate_examples(self, size: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in range(size):
            yield number, {"image": _png(number), "label": number % 3}


def _png(number: int) -> io.BytesIO:
    """Encoded here, for TFDS encodes arrays with TensorFlow only."""
    file = io.BytesIO()
    Image.fromarray(np.full((5 + number % 2, 7, 3), number, np.uint8)).save(file, "PNG")
    file.seek(0)
    return file
