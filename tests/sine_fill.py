"""Parameters and images made of a sine, which any program can repeat: what the original code gave for them is known."""

from collections.abc import Mapping

import numpy as np

from tests import golden_cases as golden

Shapes = dict[str, tuple[int, ...]]


def sine(seed: int, *shape: int) -> np.ndarray:
    """Fractions of a large sine: values in 0..1 that look random."""
    values = np.sin(12.9898 * (np.arange(np.prod(shape)) + 1) + 78.233 * (seed + 1)) * 43758.5453
    return (values - np.floor(values)).reshape(shape)


def sine_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A tensor for every name, numbered in alphabetical order; the weights of norms lie around 1."""
    tensors = {}
    for seed, name in enumerate(sorted(shapes)):
        one = len(shapes[name]) == 1 and name.endswith(".weight")
        tensors[name] = (0.3 * (sine(seed, *shapes[name]) - 0.5) + one).astype(np.float32)
    return tensors


def sine_images(count: int, side: int, seed: int = 1000) -> np.ndarray:
    """Square images of three channels."""
    return golden.channels_last(4 * (sine(seed, count, 3, side, side) - 0.5)).astype(np.float32)


def affine(name: str, outputs: int, *inputs: int) -> Shapes:
    """Weight and bias of a layer (or, without inputs, of a norm)."""
    return {f"{name}.weight": (outputs, *inputs), f"{name}.bias": (outputs,)}


def vit_blocks(name: str, depth: int, width: int) -> Shapes:
    """Blocks with a fused bias."""
    shapes: Shapes = {}
    for block in (f"{name}.{i}" for i in range(depth)):
        shapes |= affine(f"{block}.norm1", width) | affine(f"{block}.norm2", width)
        shapes |= affine(f"{block}.attn.qkv", 3 * width, width) | affine(f"{block}.attn.proj", width, width)
        shapes |= affine(f"{block}.mlp.fc1", 4 * width, width) | affine(f"{block}.mlp.fc2", width, 4 * width)
    return shapes
