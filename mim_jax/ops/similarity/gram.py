"""Gram matrices of features, and centred kernel alignment (CKA) of two of them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

HIGHEST = jax.lax.Precision.HIGHEST
"""Accelerators would otherwise round the factors of a float32 product to ten bits or less."""

FEWEST_ROWS = 4
"""The unbiased estimator divides by n - 3."""

_TINY = jnp.finfo(jnp.float32).tiny


def all_valid(x: Float[Array, "n d"], valid: Bool[Array, "n"] | None) -> Bool[Array, "n"]:
    """`valid`, or every row where it is None."""
    return jnp.ones(x.shape[0], bool) if valid is None else valid


def deviations(x: Float[Array, "n d"], valid: Bool[Array, "n"] | None = None) -> Float[Array, "n d"]:
    """Rows minus the mean of the valid ones, in float32; the others become zero, whatever they hold.

    A row is subtracted before the mean is: between numbers close to each other that is exact, so an offset common to
    all rows costs no digits, and features that do not vary become zeros.
    """
    valid = all_valid(x, valid)
    x = x.astype(jnp.float32)
    x = jnp.where(valid[:, None], x - x[jnp.argmax(valid)], 0.0)
    return jnp.where(valid[:, None], x - x.sum(axis=0) / jnp.maximum(valid.sum(), 1), 0.0)


def linear_gram(x: Float[Array, "n d"], valid: Bool[Array, "n"] | None = None) -> Float[Array, "n n"]:
    """Inner products of the rows after their mean was subtracted, in float32.

    Every estimator of CKA ignores a common offset. Left in, it is what fills float32: the small difference that
    remains after centring the Gram matrix is then noise, down to a CKA of NaN.
    """
    centred = deviations(x, valid)
    return jnp.matmul(centred, centred.T, precision=HIGHEST)


def rbf_gram(x: Float[Array, "n d"], bandwidth: float = 1.0) -> Float[Array, "n n"]:
    """exp(-|x_i - x_j|^2 / (2 t^2 m)) with the bandwidth t in units of the median distance (Kornblith et al. 2019).

    m is the median of all n^2 squared distances, zeros of the diagonal included; the lower of two middle values.
    """
    rows, gram = x.shape[0], linear_gram(x)
    lengths = jnp.diagonal(gram)
    squared = jnp.maximum(lengths[:, None] + lengths - 2 * gram, 0.0)
    squared = jnp.where(jnp.eye(rows, dtype=bool), 0.0, squared)
    median = jnp.sort(squared.ravel())[(rows**2 - 1) // 2]
    return jnp.exp(-squared / jnp.maximum(2 * bandwidth**2 * median, _TINY))


def doubly_centred(gram: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The Gram matrix with the means of its rows and columns subtracted."""
    return gram - gram.mean(axis=0) - gram.mean(axis=1, keepdims=True) + gram.mean()


def u_centred(gram: Float[Array, "n n"], valid: Bool[Array, "n"] | None = None) -> Float[Array, "n n"]:
    """The Gram matrix of the valid rows with a zero diagonal and rows that sum to zero (Székely and Rizzo 2014).

    With n valid rows, n (n - 3) HSIC1 of Song et al. 2012 is the sum of the products of two such matrices.
    """
    valid = all_valid(gram, valid)
    kept = valid[:, None] & valid & ~jnp.eye(gram.shape[0], dtype=bool)
    gram = jnp.where(kept, gram, 0.0)
    rows = valid.sum()
    sums = gram.sum(axis=0) / jnp.maximum(rows - 2, 1)
    return jnp.where(kept, gram - sums - sums[:, None] + sums.sum() / jnp.maximum(rows - 1, 1), 0.0)


_CENTRINGS = {"biased": doubly_centred, "unbiased": u_centred}


def check_estimator(estimator: str, rows: int) -> None:
    """Raises ValueError if there is no such estimator of CKA or if it needs more rows."""
    if estimator not in _CENTRINGS:
        raise ValueError(f"estimator of CKA is {estimator!r}; choose one of {', '.join(_CENTRINGS)}")
    if estimator == "unbiased" and rows < FEWEST_ROWS:
        raise ValueError(f"unbiased CKA got {rows} rows; give it {FEWEST_ROWS} at least, or choose the biased one")


def _check_same_rows(one: int, other: int) -> None:
    if one != other:
        raise ValueError(f"CKA got {one} rows and {other} rows; give it the same images in the same order twice")


def hsic_biased(one: Float[Array, "n n"], other: Float[Array, "n n"]) -> Float[Array, ""]:
    """Hilbert-Schmidt independence criterion tr(KHLH) / (n - 1)^2 of two Gram matrices (Gretton et al. 2005)."""
    return jnp.vdot(doubly_centred(one), doubly_centred(other), precision=HIGHEST) / (one.shape[0] - 1) ** 2


def hsic_unbiased(one: Float[Array, "n n"], other: Float[Array, "n n"]) -> Float[Array, ""]:
    """HSIC1, its unbiased estimator (Song et al. 2012; Nguyen et al. 2021, eq. 3).

    Raises:
        ValueError: if there are fewer than 4 rows.
    """
    rows = one.shape[0]
    check_estimator("unbiased", rows)
    return jnp.vdot(u_centred(one), u_centred(other), precision=HIGHEST) / (rows * (rows - 3))


def cka_of_grams(
    one: Float[Array, "n n"],
    other: Float[Array, "_ _"],
    estimator: str = "unbiased",
) -> Float[Array, ""]:
    """CKA of two Gram matrices of the same images: the cosine of the angle between them, centred.

    It is 0 where one of the representations does not vary.

    Args:
        estimator: "unbiased" (from HSIC1; may be negative) or "biased", which grows towards 1 with the widths of the
            features over the number of images.

    Raises:
        ValueError: if the sizes differ, the estimator is unknown, or is unbiased with fewer than 4 rows.
    """
    _check_same_rows(one.shape[0], other.shape[0])
    check_estimator(estimator, one.shape[0])
    # Centring ignores a constant; without it, a Gram matrix of ones becomes zeros to the last digit.
    first, second = (_unit(_CENTRINGS[estimator](gram - gram[0, -1])) for gram in (one, other))
    return jnp.vdot(first, second, precision=HIGHEST)


def _unit(gram: Float[Array, "n n"]) -> Float[Array, "n n"]:
    gram = gram / jnp.maximum(jnp.abs(gram).max(), _TINY)  # So that no square leaves the range of float32.
    return gram / jnp.maximum(jnp.sqrt(jnp.vdot(gram, gram, precision=HIGHEST)), _TINY)


def linear_cka(x: Float[Array, "n a"], y: Float[Array, "_ c"], estimator: str = "unbiased") -> Float[Array, ""]:
    """Linear CKA of two representations of the same n images (Kornblith et al. 2019; debiased as Nguyen et al. 2021).

    It takes n^2 numbers of memory: for many images see `cka_sums`. Estimators and raises as in `cka_of_grams`.
    """
    return cka_of_grams(linear_gram(x), linear_gram(y), estimator)


def aligned(between: Float[Array, "l m"], first: Float[Array, "l"], second: Float[Array, "m"]) -> Float[Array, "l m"]:
    """HSIC between layers over the root of the product of their own; 0 where a layer has none."""
    lengths = jnp.sqrt(jnp.maximum(first, 0.0))[:, None] * jnp.sqrt(jnp.maximum(second, 0.0))
    return jnp.where(lengths > 0, between / jnp.where(lengths > 0, lengths, 1.0), 0.0)
