"""The classifier behind a pooling."""

import flax.linen as nn
from jaxtyping import Array, Float

from mim_jax.errors import InputError
from mim_jax.models.layers import LayerNorm
from mim_jax.pretraining.heads import BatchNorm
from mim_jax.probing.pooling.linear import Linear, Start

NORM_EPSILON = 1e-6

CLASSIFIERS: dict[str, Start] = {"torch_default": "torch_default", "normal": 0.01, "zeros": 0.0}
"""How the kernel of the classifier starts: as torch's (its bias too), normal with a deviation of 0.01, or at zero."""


class ProbeHead(nn.Module):
    """Linear classifier on one feature per image, behind a batch norm without parameters (He et al. 2022, A.1).

    The running statistics are in the collection `STATISTICS` of `pretraining.heads`.

    Attributes:
        classes: number of classes.
        layer_norm: a trained layer norm first, in place of the encoder's last one.
        batch_norm: whether features are normalised over the batch.
        use_bias: whether the classifier has a bias; AIM's has none.
        start: a name of `CLASSIFIERS`.
        groups: parts of the batch that the batch norm normalises each by itself; 1 for all of it at once.

    Raises:
        InputError: if `start` is none of them.
    """

    classes: int
    layer_norm: bool = False
    batch_norm: bool = True
    use_bias: bool = True
    start: str = "torch_default"
    groups: int = 1

    def __post_init__(self) -> None:
        if self.start not in CLASSIFIERS:
            raise InputError(
                f"a classifier starts as {', '.join(CLASSIFIERS)}, not as '{self.start}'; choose one of them"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, features: Float[Array, "b e"], training: bool = False) -> Float[Array, "b c"]:
        """Logits; `training` normalises by the batch and updates the running statistics."""
        if self.layer_norm:
            features = LayerNorm(NORM_EPSILON, name="layer_norm")(features)
        if self.batch_norm:
            features = BatchNorm(NORM_EPSILON, affine=False, groups=self.groups, name="batch_norm")(features, training)
        return Linear((self.classes,), use_bias=self.use_bias, start=CLASSIFIERS[self.start], name="linear")(features)
