"""Singular values of representations, and what is read off them without labels."""

from mim_jax.ops.spectra.factors import TriangularFactor, factor_singular_values, merge_factors, triangular_factor
from mim_jax.ops.spectra.lidar import lidar
from mim_jax.ops.spectra.power_law import PowerLaw, alpha_req
from mim_jax.ops.spectra.ranks import (
    covariance_spectrum,
    effective_rank,
    log_spectrum,
    participation_ratio,
    rankme,
    rankme_centered,
    singular_values,
)
from mim_jax.ops.spectra.tokens import token_log_spectrum, top_singular_shares

__all__ = [
    "PowerLaw",
    "TriangularFactor",
    "alpha_req",
    "covariance_spectrum",
    "effective_rank",
    "factor_singular_values",
    "lidar",
    "log_spectrum",
    "merge_factors",
    "participation_ratio",
    "rankme",
    "rankme_centered",
    "singular_values",
    "token_log_spectrum",
    "top_singular_shares",
    "triangular_factor",
]
