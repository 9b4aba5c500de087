"""Features for probing tests: Gaussian clusters, one a class."""

import numpy as np


def clusters(
    images: int = 240, width: int = 8, classes: int = 4, spread: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and test features and labels; a third is for testing."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((classes, width))
    labels = np.arange(images) % classes
    features = (centres[labels] + spread * generator.standard_normal((images, width))).astype(np.float32)
    test = np.arange(images) >= images * 2 // 3
    return features[~test], labels[~test], features[test], labels[test]
