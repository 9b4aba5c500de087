"""An encoder with a linear head."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from mim_jax.models.encoder import EncoderOutput
from mim_jax.models.layers import Dense, LayerNorm


def _mean_of_patches(out: EncoderOutput) -> Float[Array, "b d"]:
    return out.patches.astype(jnp.float32).mean(axis=1)


def _class_token(out: EncoderOutput) -> Float[Array, "b d"]:
    return jnp.asarray(out.tokens)[:, 0].astype(jnp.float32)


def _class_token_and_mean(out: EncoderOutput) -> Float[Array, "b e"]:
    return jnp.concatenate([_class_token(out), _mean_of_patches(out)], axis=-1)


READOUTS: dict[str, Callable[[EncoderOutput], Float[Array, "b _"]]] = {
    "mean": _mean_of_patches,
    "mean_then_norm": _mean_of_patches,
    "class_token": _class_token,
    "class_token_and_mean": _class_token_and_mean,
    "distilled": _class_token,
}
"""How a classifier reads its encoder; `mean_then_norm` has a layer norm (`fc_norm`) behind the mean."""


STANDARDISATION_EPSILON = 1e-6


class RunningStandardisation(nn.Module):
    """Subtracts a stored mean and divides by a stored deviation, `sqrt(variance + epsilon)`."""

    @nn.compact
    def __call__(self, x: Float[Array, "b d"]) -> Float[Array, "b d"]:
        mean = self.param("mean", nn.initializers.zeros, x.shape[-1:])
        variance = self.param("variance", nn.initializers.ones, x.shape[-1:])
        mean, variance = jax.lax.stop_gradient((mean, variance))
        return (x - mean) * jax.lax.rsqrt(variance + STANDARDISATION_EPSILON)


class Classifier(nn.Module):
    """An encoder, a readout and a linear head.

    `readout="mean_then_norm"` belongs to an encoder without a final norm (MAE's, BEiT's and SimMIM's fine-tuning),
    "mean" to one with (Swin), "class_token" likewise (DeiT); "class_token_and_mean" concatenates both (DINOv2's linear
    head); "distilled" averages the logits of a head on the class token and one on the distillation token.
    `standardise` puts a batch norm without affine parameters, in evaluation mode, in front of the head (MAE's probe).
    """

    encoder: nn.Module
    num_classes: int
    readout: str = "mean_then_norm"
    norm_epsilon: float = 1e-6
    head_init: str = "normal"
    standardise: bool = False

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, dropout_key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "b t"], Float[Array, "b e"]]:
        """Returns logits and the pooled features that they are computed from."""
        out = self.encoder(images, dropout_key=dropout_key)
        features = READOUTS[self.readout](out)
        if self.readout == "mean_then_norm":
            features = LayerNorm(self.norm_epsilon, name="fc_norm")(features)
        if self.standardise:
            features = RunningStandardisation(name="head_norm")(features)
        logits = Dense((self.num_classes,), kernel_init=self.head_init, name="head")(features)
        if self.readout == "distilled":
            head = Dense((self.num_classes,), kernel_init=self.head_init, name="head_dist")
            logits = (logits + head(out.tokens[:, 1].astype(jnp.float32))) / 2
        return logits, features
