"""Images held in memory: arrays of your own, and scikit-learn's handwritten digits."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8

from mim_jax.data.record import Record
from mim_jax.errors import InputError

DIGITS_SPLITS = {"train": "train", "test": "test", "val": "test", "valid": "test", "validation": "test"}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ArraySource:
    """A source over arrays.

    Attributes:
        images: uint8 images of one size, `[b, h, w, c]`, or a list of them, `[h, w, c]` of any size.
        labels: one integer per image, -1 for none.
        class_names: name of every label, empty without labels.
        name: how messages call this source.
    """

    images: UInt8[np.ndarray, "b h w c"] | Sequence[UInt8[np.ndarray, "_ _ c"]]
    labels: Int[np.ndarray, " labels"]
    class_names: tuple[str, ...] = ()
    name: str = "array"

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels) or not len(self.images):
            raise InputError(
                f"Source {self.name!r} needs one label per image and at least one image, "
                f"but has {len(self.images)} images and {len(self.labels)} labels."
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Record:
        return {"image": self.images[index], "label": int(self.labels[index])}

    def __repr__(self) -> str:
        shapes = sorted({"x".join(map(str, image.shape)) for image in self.images})
        sizes = shapes[0] if len(shapes) == 1 else "several sizes"
        return f"ArraySource({self.name}: {len(self)} images of {sizes}, {len(self.class_names)} classes)"

    def describe(self, index: int) -> str:
        """Place of a record, for messages."""
        return f"record {index} of {self.name}"


def open_digits(split: str) -> ArraySource:
    """scikit-learn's 1797 handwritten digits, 8x8 pixels, one channel, 0..16 scaled to 0..255.

    The split is fixed: of the digits sorted by class (stably), every fifth, from the first on, is in "test"
    (360 records), the others are in "train" (1437 records); both keep scikit-learn's order. "val", "valid" and
    "validation" mean "test". Raises `InputError` for any other split.
    """
    check_digits(split)
    from sklearn.datasets import load_digits  # importing scikit-learn takes a second

    digits = load_digits()
    in_test = np.zeros(len(digits.target), bool)
    in_test[np.argsort(digits.target, kind="stable")[::5]] = True
    chosen = in_test if DIGITS_SPLITS[split] == "test" else ~in_test
    images = np.round(digits.images[chosen] * 255 / 16).astype(np.uint8)[..., None]
    names = tuple(str(name) for name in digits.target_names)
    return ArraySource(images, digits.target[chosen].astype(np.int32), names, f"digits/{DIGITS_SPLITS[split]}")


def check_digits(split: str) -> None:
    """Raises InputError if the digits have no such split."""
    if split not in DIGITS_SPLITS:
        raise InputError(f"The digits have no split {split!r}; use 'train' or 'test'.")
