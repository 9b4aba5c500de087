"""Spectra of image features, and soft counts of the dimensions they use."""

import jax.numpy as jnp
from jax.scipy.special import entr
from jaxtyping import Array, Float

RANKME_EPSILON = 1e-7

_TINY = jnp.finfo(jnp.float32).tiny
_EPSILON = jnp.finfo(jnp.float32).eps


def singular_values(x: Float[Array, "*b n d"], centred: bool) -> Float[Array, "*b r"]:
    """The min(n, d) singular values of the rows in float32, largest first; minus their mean first where `centred`."""
    x = x.astype(jnp.float32)
    return jnp.linalg.svd(x - x.mean(axis=-2, keepdims=True) if centred else x, compute_uv=False)


def effective_rank(sigma: Float[Array, "*b r"], epsilon: float = 0.0) -> Float[Array, "*b"]:
    """exp of the entropy of p = sigma / sum(sigma) + epsilon (Roy and Vetterli 2007).

    It is r for equal values and 1 for a single one. With epsilon 1e-7 and uncentred singular values it is RankMe.
    """
    shares = sigma / jnp.maximum(sigma.sum(axis=-1, keepdims=True), _TINY) + epsilon
    return jnp.exp(entr(shares).sum(axis=-1))


def participation_ratio(sigma: Float[Array, "*b r"]) -> Float[Array, "*b"]:
    """(sum lambda)^2 / sum lambda^2 of the eigenvalues lambda = sigma^2; 0 where all are zero."""
    eigenvalues = jnp.square(sigma / jnp.maximum(sigma.max(axis=-1, keepdims=True), _TINY))
    return jnp.square(eigenvalues.sum(axis=-1)) / jnp.maximum(jnp.square(eigenvalues).sum(axis=-1), _TINY)


def rankme(x: Float[Array, "n d"]) -> Float[Array, ""]:
    """RankMe (Garrido et al. 2023): effective rank of the uncentred features, epsilon 1e-7.

    The paper takes 25600 images and compares runs of one method only. A mean common to all images counts as the first
    singular value and may lower it by an order of magnitude: see `rankme_centered`.
    """
    return effective_rank(singular_values(x, centred=False), RANKME_EPSILON)


def rankme_centered(x: Float[Array, "n d"]) -> Float[Array, ""]:
    """RankMe of the features minus their mean."""
    return effective_rank(singular_values(x, centred=True), RANKME_EPSILON)


def covariance_spectrum(x: Float[Array, "n d"]) -> Float[Array, "r"]:
    """The min(n, d) largest eigenvalues of the covariance over images (divided by n), descending (Jing et al. 2022)."""
    return jnp.square(singular_values(x, centred=True)) / x.shape[0]


def log_spectrum(x: Float[Array, "*b n d"]) -> Float[Array, "*b r"]:
    """ln sigma_i - ln sigma_1 of the centred rows, i from 1 to their rank min(n - 1, d) (Park et al. 2023).

    What float32 does not resolve beside sigma_1 is set to its resolution, -15.9. Zeros where the rows do not vary.
    """
    sigma = singular_values(x, centred=True)[..., : max(x.shape[-2] - 1, 1)]
    sigma = jnp.maximum(sigma, _TINY)
    return jnp.log(jnp.maximum(sigma / sigma[..., :1], _EPSILON))
