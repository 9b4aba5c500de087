"""Lengths of tokens, the outliers among them, and how much a block changes them. All in float32, per image."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

DEVIATIONS = 5.0
"""How many deviations above the median a token's norm makes it an outlier.

Norms of ordinary tokens are skewed to the right: were they log-normal with a spread of 0.3, 5 deviations would call one
token in a thousand an outlier (3.5, the usual choice for symmetric data, one in a hundred), far below the 2 % that
Darcet et al. 2024 report, whose outliers are about ten times as long as the others.
"""

DINOV2_CUTOFF = 150.0
"""Absolute cut-off of Darcet et al. 2024 for DINOv2 g, behind the last block and before the final norm."""

CLIP_CUTOFF = 30.0
"""Absolute cut-off of Jiang et al. 2025 ("Vision transformers don't need trained registers") for CLIP."""

NORM_EDGES = np.logspace(-2, 5, 141)
"""Edges of the histogram of norms, 20 bins a decade, the same for all layers and encoders, so that shares add up."""
NORM_EDGES.setflags(write=False)

_DEVIATION_OF_NORMAL = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution."""
_ROUNDING = 1e-4
"""Relative difference of norms that bfloat16 tokens can show by rounding alone."""
_EPSILON = 1e-6


def token_norms(tokens: Float[Array, "b n d"]) -> Float[Array, "b n"]:
    """Euclidean length over channels. What matters is where tokens come from: a final norm takes outliers away."""
    return jnp.linalg.norm(tokens.astype(jnp.float32), axis=-1)


def outlier_share(
    norms: Float[Array, "b n"], *, deviations: float = DEVIATIONS, cutoff: float | None = None
) -> Float[Array, "b"]:
    """Share of the patches of an image with an outlying norm.

    `norms` are of patches only. A norm is outlying if it lies above the image's median + `deviations` * 1.4826 * median
    absolute deviation, which half of the patches cannot move; or, if `cutoff` is given, above that number. Equal norms
    give 0: a deviation counts as at least 1e-4 of the median, which is rounding.
    """
    limit = robust_limit(norms, deviations) if cutoff is None else cutoff
    return (norms > limit).mean(axis=-1, dtype=jnp.float32)


def robust_limit(norms: Float[Array, "b n"], deviations: float = DEVIATIONS) -> Float[Array, "b 1"]:
    """The norm above which `outlier_share` calls a patch of the image an outlier."""
    median = jnp.median(norms, axis=-1, keepdims=True)
    spread = _DEVIATION_OF_NORMAL * jnp.median(jnp.abs(norms - median), axis=-1, keepdims=True)
    return median + deviations * jnp.maximum(spread, _ROUNDING * median)


def norm_histogram(
    norms: Float[Array, "b n"], edges: Float[np.ndarray, "edges"] = NORM_EDGES
) -> Float[Array, "b bins"]:
    """Share of an image's tokens in every bin between two of the rising `edges`; shares sum to 1.

    A norm on an edge is in the bin above it. What lies below the first edge is in the first bin, and what lies above
    the last edge, or is not a number, in the last.
    """
    place = jnp.searchsorted(jnp.asarray(edges[1:-1], jnp.float32), norms, side="right")
    return (place[..., None] == jnp.arange(len(edges) - 1)).mean(axis=1, dtype=jnp.float32)


def feature_variance(maps: Float[Array, "b y x d"]) -> Float[Array, "b"]:
    """Variance over the positions of a feature map, mean over channels (Park & Kim 2022)."""
    return maps.astype(jnp.float32).var(axis=(1, 2)).mean(axis=-1)


def magnitudes(block_input: Float[Array, "b n d"], branch: Float[Array, "b n d"]) -> Float[Array, "b n"]:
    """Length of what a branch adds to a token over the token's length, |branch| / (|block_input| + 1e-6).

    How much a block updates its tokens (Przewięźlikowski et al. 2025, "Beyond [cls]"). They take the branch before
    layer scale; an `Observation` has it behind, as it is added to the tokens.
    """
    return token_norms(branch) / (token_norms(block_input) + _EPSILON)
