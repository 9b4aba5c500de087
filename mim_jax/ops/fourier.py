"""Frequencies in feature maps: how much of the fine detail a layer keeps.

The relative log amplitude is that of Park & Kim 2022 ("How do vision transformers work?") and Park et al. 2023 ("What
do self-supervised vision transformers learn?"). Everything is per image; their numbers are means over images.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mim_jax.ops.patches import Pair, rows_and_columns

AMPLITUDE_FLOOR = 1e-6
"""Added to amplitudes before the logarithm, as the originals do."""


def log_amplitude_map(maps: Float[Array, "b y x d"]) -> Float[Array, "b y x"]:
    """log(|F| + 1e-6), mean over channels, with F the 2-D Fourier transform of every channel, in float32.

    Zero frequency lies at `(y // 2, x // 2)`.
    """
    amplitudes = jnp.abs(jnp.fft.fft2(maps.astype(jnp.float32), axes=(1, 2)))
    return jnp.fft.fftshift(jnp.log(amplitudes + AMPLITUDE_FLOOR).mean(axis=-1), axes=(1, 2))


def relative_log_amplitude(maps: Float[Array, "b y x d"]) -> Float[Array, "b f"]:
    """Log amplitude along the diagonal, from zero frequency up, minus that of zero frequency.

    With s the shorter side, entry i is at i / s cycles a token downwards and to the right, i < s / 2; the first entry
    is 0, and the last belongs to the highest frequency of the diagonal (`diagonal_frequencies`). Of a square map these
    are bins of the Fourier transform; of another one the sum over tokens is taken at the same frequencies.
    """
    waves = jnp.asarray(_diagonal_waves(rows_and_columns(maps)), jnp.float32)
    # The few frequencies of the diagonal as one product: far cheaper than a whole transform of every channel.
    parts = jnp.einsum("pfyx,byxd->pbfd", waves, maps.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    amplitudes = jnp.sqrt(jnp.square(parts).sum(axis=0))
    diagonal = jnp.log(amplitudes + AMPLITUDE_FLOOR).mean(axis=-1)
    return diagonal - diagonal[:, :1]


def diagonal_frequencies(grid: Pair) -> Float[np.ndarray, "f"]:
    """The frequencies of `relative_log_amplitude` of maps of `grid`, in units of pi radians a token, 0 first.

    The last one is 1 - 1 / s of an odd shorter side s, and 1 - 2 / s of an even one.
    """
    return 2 * np.arange((min(grid) + 1) // 2) / min(grid)


def _diagonal_waves(grid: Pair) -> Float[np.ndarray, "2 f y x"]:
    """Cosine and sine of the diagonal waves at every token."""
    along = np.add.outer(np.arange(grid[0]), np.arange(grid[1]))
    angle = np.pi * diagonal_frequencies(grid)[:, None, None] * along
    return np.stack([np.cos(angle), np.sin(angle)])
