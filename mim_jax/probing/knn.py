"""Nearest neighbours as a probe: nothing is trained."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mim_jax.ops.neighbours import neighbour_votes


def knn_accuracy(
    train_features: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, "n"],
    test_features: Float[np.ndarray, "m d"],
    test_labels: Int[np.ndarray, "m"],
    *,
    neighbours: int = 20,
    temperature: float = 0.07,
) -> float:
    """Top-1 accuracy in [0, 1] of weighted nearest neighbours in cosine similarity (protocol of DINO).

    Labels are class numbers from 0. A tie between classes goes to the smaller number.

    Raises:
        ValueError: if `neighbours` exceeds the number of training images.
    """
    votes = neighbour_votes(
        jnp.asarray(train_features),
        jnp.asarray(train_labels),
        jnp.asarray(test_features),
        num_classes=int(train_labels.max()) + 1,
        neighbours=neighbours,
        temperature=temperature,
    )
    return float(np.mean(np.asarray(votes.argmax(axis=-1)) == test_labels))
