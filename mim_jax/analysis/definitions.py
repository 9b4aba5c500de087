"""What every statistic is: its unit and its definition, as tables, figures and reports state them."""

import dataclasses

from mim_jax.errors import InputError, nearest


@dataclasses.dataclass(frozen=True)
class Statistic:
    """Unit and definition of a statistic; `query` in a row says whose attention or tokens it is taken of."""

    unit: str
    definition: str


_PATCH_ATTENTION = "attention renormalised over patches (prefix tokens dropped)"
_THEN = "; mean over the queries of the group, then over images"

HEAD_STATISTICS = {
    "attention_distance": Statistic(
        "px",
        "Euclidean distance between the centres of query and key patch, the patch itself included, weighted by "
        + _PATCH_ATTENTION
        + _THEN,
    ),
    "attention_distance_tokens": Statistic("tokens", "the same in sides of a patch"),
    "attention_distance_squared": Statistic("px^2", "square of the distance, weighted by " + _PATCH_ATTENTION + _THEN),
    "row_offset": Statistic("px", "how far below the query attention lies, weighted by " + _PATCH_ATTENTION + _THEN),
    "column_offset": Statistic(
        "px", "how far to the right of the query its attention lies, weighted by " + _PATCH_ATTENTION + _THEN
    ),
    **{
        f"local_mass_{size}x{size}": Statistic(
            "share", f"{_PATCH_ATTENTION}: share of the {size}x{size} patches around the query{_THEN}"
        )
        for size in (3, 5, 7)
    },
    "attention_entropy": Statistic("nats", "entropy of " + _PATCH_ATTENTION + _THEN),
    "attention_entropy_with_prefix": Statistic("nats", "entropy of attention over all tokens" + _THEN),
    "normalised_mutual_information": Statistic(
        "share",
        "mutual information of query and key patch under uniform queries and " + _PATCH_ATTENTION + ", over the "
        "geometric mean of their entropies; 0 if all queries attend alike; mean over images",
    ),
    "self_attention": Statistic("share", "attention of a token to itself" + _THEN),
    "self_attention_against_patches": Statistic(
        "ratio",
        "attention of a token to itself over its attention to all patches (of a patch a share, of a class token odds)"
        + _THEN,
    ),
    "attention_to_class": Statistic("share", "attention to the class token" + _THEN),
    "attention_to_registers": Statistic("share", "attention to all registers together" + _THEN),
    "attention_to_a_patch": Statistic("share", "mean attention to one patch" + _THEN),
    "largest_attention_received": Statistic(
        "share", "largest share of " + _PATCH_ATTENTION + " that one patch receives of all patches; mean over images"
    ),
    "kl_between_heads": Statistic(
        "nats",
        "KL divergence between the patch attention of two heads, from the logits without any epsilon; mean over "
        "queries, over the other heads (of a layer over all ordered pairs), then over images",
    ),
}
"""Statistics that every head has, and every layer as the mean over its heads."""

LAYER_STATISTICS = {
    "jensen_shannon_between_heads": Statistic(
        "nats",
        "generalised Jensen-Shannon divergence of the patch attention of all heads: entropy of their mean less mean of "
        "their entropies; mean over queries, then over images",
    ),
    "update_magnitude": Statistic(
        "ratio",
        "length of what the attention branch adds (behind any layer scale or norm) over the length of the block's "
        "input" + _THEN,
    ),
    "mlp_update_magnitude": Statistic(
        "ratio", "length of what the MLP branch adds over the length of what it is added to" + _THEN
    ),
    "token_norm": Statistic("length", "Euclidean length of the block's output, before any final norm" + _THEN),
    "outlier_share": Statistic(
        "share",
        "share of patches whose norm exceeds the median of the image by far (in robust deviations); mean over images",
    ),
    "feature_variance": Statistic(
        "variance", "variance of the block's output over patches, mean over channels, then over images"
    ),
    "fourier_relative_log_amplitude": Statistic(
        "log amplitude",
        "log amplitude of the feature map at the highest frequency of the half diagonal less that at zero frequency, "
        "mean over channels, then over images",
    ),
    "top_singular_share": Statistic(
        "share",
        "share of the largest singular value in the sum of all, of the matrix of an image's patch tokens, each of "
        "length 1; mean over images",
    ),
}
"""Statistics of a whole layer, over images."""

REPRESENTATION_STATISTICS = {
    "rankme": Statistic("rank", "exp of the entropy of the singular values of all features, not centred (RankMe)"),
    "rankme_centered": Statistic("rank", "the same of centred features"),
    "effective_rank": Statistic("rank", "exp of the entropy of the singular values of centred features, no epsilon"),
    "participation_ratio": Statistic("rank", "(sum of eigenvalues)^2 / sum of their squares, of the covariance"),
    "alpha_req": Statistic("exponent", "decay of the covariance's eigenvalues: -slope of log eigenvalue by log rank"),
    "lidar": Statistic("rank", "exp of the entropy of the linear discriminant spectrum of images against their views"),
}
"""Statistics of the features of all images together; without an interval."""

STATISTICS = HEAD_STATISTICS | LAYER_STATISTICS | REPRESENTATION_STATISTICS

QUERIES = ("class", "registers", "patches")


def check_statistics(names: tuple[str, ...]) -> None:
    """Raises InputError for a name that is none."""
    for name in names:
        if name not in STATISTICS:
            raise InputError(f"unknown statistic '{name}'; {nearest(name, STATISTICS)}")


def definition_of(name: str) -> Statistic:
    """Unit and definition of a statistic, or of what another paper's code computes (CODE/NAME)."""
    if name in STATISTICS:
        return STATISTICS[name]
    from mim_jax.ops.attention_compat import COMPAT

    return Statistic(COMPAT[name].unit, COMPAT[name].difference)
