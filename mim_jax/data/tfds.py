"""TFDS data sets that are prepared on disk, without TensorFlow."""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mim_jax.data.record import Record, decode_image
from mim_jax.data.shards import Records, Slice, open_array_records, open_tfrecords
from mim_jax.errors import InputError, ranked
from mim_jax.paths import local_path

OPENERS: dict[str, Callable[[Sequence[Slice]], Records]] = {
    "array_record": open_array_records,
    "tfrecord": open_tfrecords,
}
MODES = {1: "L", 3: "RGB"}

_NAME = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TfdsImages:
    """A source over one split of a TFDS data set: its features `image` and, if there is one, `label`.

    Attributes:
        name: data set and split, for messages.
        records: serialised examples.
        parse: a serialised example to a dict of those two features, the image still compressed.
        mode: PIL mode of the images, "RGB" or "L".
        class_names: name of every label, empty without labels.
    """

    name: str
    records: Records
    parse: Callable[[bytes], Mapping[str, Any]]
    mode: str
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        example = self.parse(self.records[index])
        image = decode_image(example["image"], self.describe(index), self.mode)
        return {"image": image, "label": int(example.get("label", -1))}

    def describe(self, index: int) -> str:
        """Place of a record, for messages."""
        return f"record {index} of {self.name}"


def open_tfds(name: str, split: str, data_dir: str = "") -> TfdsImages:
    """Open `name[/config][:version]` under `data_dir` (default `$TFDS_DATA_DIR` or ~/tensorflow_datasets).

    The split may be a TFDS slice such as "train[:10%]". Files are array_record or tfrecord. Raises `InputError`
    where nothing is prepared under that name, for an unknown split, another file format, or features without an image.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(_prepared_folder(name, data_dir)))
    info = builder.info
    file_format = info.file_format.value if info.file_format else "nothing"
    if file_format not in OPENERS:
        raise InputError(f"{name} is stored as {file_format}; only {' and '.join(OPENERS)} can be read.")
    available = dict(info.features.items())
    mode = _image_mode(name, available)
    wanted = {key: available[key] for key in ["image", *_label_key(available)]}
    features = tfds.features.FeaturesDict(wanted)
    records = OPENERS[file_format](_slices(name, split, info.splits))
    # PIL decodes, not TFDS, which takes OpenCV where it finds it: other bytes, and no error for half a file.
    decoders = {"image": tfds.decode.SkipDecoding()}
    parse: Any = functools.partial(features.deserialize_example_np, decoders=decoders)
    return TfdsImages(f"{name}/{split}", records, parse, mode, _class_names(wanted))


def check_tfds(name: str, data_dir: str = "") -> None:
    """Raises InputError if no such data set is prepared, by the names of its folders."""
    _prepared_folder(name, data_dir)


def _prepared_folder(name: str, data_dir: str) -> Path:
    """Folder of the asked (or the newest) version of a data set."""
    if not (parts := _NAME.fullmatch(name)):
        raise InputError(f"{name!r} is not a TFDS name: write name, name/config, name:1.0.0 or name/config:1.0.0.")
    root = local_path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    found = sorted(_prepared(root / parts["name"]), key=lambda each: tuple(map(int, each[1].split("."))))
    fits = [each for each in found if parts["config"] in (None, each[0]) and parts["version"] in (None, each[1])]
    if not fits:
        raise InputError(_nothing_prepared(name, parts["name"], root, found))
    if len(configs := sorted({config for config, _, _ in fits})) > 1:
        raise InputError(f"{name} has several configs under {root}: name one of {', '.join(configs)}.")
    return fits[-1][2]


def _prepared(folder: Path) -> list[tuple[str, str, Path]]:
    """Config, version and folder of everything prepared under a data set's folder."""
    paths = [info.parent for depth in ("*", "*/*") for info in folder.glob(f"{depth}/dataset_info.json")]
    paths = [path for path in paths if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return [(str(path.parent.relative_to(folder)).strip("."), path.name, path) for path in paths]


def _nothing_prepared(name: str, dataset: str, root: Path, found: list[tuple[str, str, Path]]) -> str:
    if found:
        versions = ", ".join(f"{dataset}{'/' * bool(config)}{config}:{version}" for config, version, _ in found)
        return f"{name!r} is not prepared under {root}, which has {versions}."
    others = sorted(path.name for path in root.glob("*") if _prepared(path)) if root.is_dir() else []
    close = ranked(dataset, others)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(others) or 'no prepared data set'}."
    return (
        f"No TFDS data set {dataset!r} is prepared under {root}: {hint} Set data_dir, or prepare it once with "
        f"tfds.builder({dataset!r}, data_dir=..., file_format='array_record').download_and_prepare()."
    )


def _slices(name: str, split: str, splits: Mapping[str, Any]) -> Sequence[Slice]:
    try:
        slices = splits[split].file_instructions
    except (ValueError, KeyError) as error:
        known = ", ".join(splits.keys())
        raise InputError(f"{name} has no split {split!r}: it has {known}, and slices such as 'train[:10%]'.") from error
    if not slices:
        raise InputError(f"The split {split!r} of {name} is empty.")
    return slices


def _image_mode(name: str, features: dict[str, Any]) -> str:
    image: Any = features.get("image")
    if type(image).__name__ != "Image":
        raise InputError(f"{name} has no image feature called 'image': it has {', '.join(features.keys())}.")
    if image.shape[-1] not in MODES or np.dtype(image.np_dtype) != np.uint8:
        raise InputError(f"The images of {name} are {image}; 8-bit gray (1 channel) and RGB (3) can be read.")
    return MODES[image.shape[-1]]


def _label_key(features: dict[str, Any]) -> list[str]:
    label = features.get("label")
    whole_number = label is not None and label.shape == () and np.issubdtype(np.dtype(label.np_dtype), np.integer)
    return ["label"] if whole_number else []


def _class_names(features: dict[str, Any]) -> tuple[str, ...]:
    label = features.get("label")
    return tuple(label.names) if hasattr(label, "names") else ()
