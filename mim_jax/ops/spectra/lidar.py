"""Rank of what tells images apart in spite of augmentation."""

import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from mim_jax.ops.spectra.ranks import effective_rank


def lidar(views: Float[Array, "n v d"], delta: float = 1e-4, epsilon: float = 1e-8) -> Float[Array, ""]:
    """LiDAR (Thilak et al. 2024): effective rank of W^-1/2 B W^-1/2, from v augmented views of each of n images.

    B is the covariance of the images' means, divided by n - 1; W that of the views around them, divided by n (v - 1),
    plus delta. Both stay factored: W = R^T R with a triangular R of the deviations with delta's root below them, so
    that no eigenvalue is smaller than delta and none loses its digits to squaring.

    Raises:
        ValueError: if there are fewer than 2 images or views.
    """
    n, v, d = views.shape
    if n < 2 or v < 2:
        raise ValueError(f"lidar got {n} images with {v} views each; give it 2 images and 2 views at least")
    views = views.astype(jnp.float32)
    means = views.mean(axis=1)
    within = (views - means[:, None]).reshape(n * v, d) / jnp.sqrt(n * (v - 1.0))
    factor = jnp.linalg.qr(jnp.concatenate([within, jnp.sqrt(delta) * jnp.eye(d)]), mode="r")
    whitened = solve_triangular(factor, (means - means.mean(axis=0)).T, trans="T")
    sigma = jnp.linalg.svd(whitened, compute_uv=False) / jnp.sqrt(n - 1.0)
    # All d eigenvalues count: epsilon gives weight even to those that must be zero.
    eigenvalues = jnp.pad(jnp.square(sigma), (0, d - sigma.size))
    return effective_rank(eigenvalues, epsilon)
