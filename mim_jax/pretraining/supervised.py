"""Supervised training from scratch, as a MIM encoder is compared with: cross-entropy with DeiT's augmentations."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from mim_jax.models.blocks import Computation
from mim_jax.models.build import AnyEncoderConfig, initial_parameters, make_encoder
from mim_jax.models.classifier import READOUTS, Classifier
from mim_jax.models.flops import encoder_flops, encoder_stages, patch_embedding_flops, saved_bytes
from mim_jax.models.stacking import unstack_blocks
from mim_jax.ops.mixing import mix, random_erasing, soft_cross_entropy
from mim_jax.pretraining.objective import Batch, Memory, Memoryless, Outcome, Parameters


@dataclasses.dataclass(frozen=True)
class Supervised(Memoryless):
    """Classification with mixed images and smoothed labels (Touvron et al. 2021).

    Attributes:
        encoder_config: the encoder.
        num_classes: number of classes; labels are 0 to `num_classes - 1`.
        readout: how the encoder is read, a name of `models.classifier.READOUTS`.
        label_smoothing: share of a label that is spread over all classes.
        mixup: parameter of the Beta distribution by which two images are blended; 0 for none (Zhang et al. 2018).
        cutmix: the same for pasting a box of one image into another (Yun et al. 2019).
        erasing: probability that a box of an image is filled with noise (Zhong et al. 2020).
        standardise: whether stored statistics standardise the features, as in a linear probe that was imported.
        computation: how it is computed.
    """

    encoder_config: AnyEncoderConfig
    num_classes: int
    readout: str = "mean"
    label_smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    erasing: float = 0.25
    standardise: bool = False
    computation: Computation = Computation()

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"classification needs at least two classes, not {self.num_classes}; set num_classes")
        if self.readout not in READOUTS:
            raise ValueError(f"readout must be one of {', '.join(READOUTS)}, not '{self.readout}'")
        wanted = {"class_token": 1, "class_token_and_mean": 1, "distilled": 2}.get(self.readout, 0)
        if self.encoder_config.prefix < wanted:
            raise ValueError(
                f"the readout '{self.readout}' needs {wanted} prefix token{'s' * (wanted > 1)}, but the encoder has "
                f"{self.encoder_config.prefix}; choose 'mean'"
            )

    @property
    def encoder(self) -> nn.Module:
        """The encoder's module."""
        return make_encoder(self.encoder_config, self.computation)

    @property
    def classifier(self) -> Classifier:
        """Encoder, readout and head."""
        epsilon = self.encoder_config.norm_epsilon
        return Classifier(self.encoder, self.num_classes, self.readout, epsilon, standardise=self.standardise)

    def init(self, key: PRNGKeyArray) -> Parameters:
        """Fresh parameters `{"encoder": ..., "head": ...}`, in per-block form."""
        config = self.encoder_config
        scanned = dataclasses.replace(self, computation=Computation(scan_blocks=True)).classifier
        images = jnp.zeros((1, *config.image_size, config.channels))
        parameters = unstack_blocks(scanned.init(key, images)["params"])
        return parameters | {"encoder": initial_parameters(config, key)}

    def draw(self, batch: Batch, key: PRNGKeyArray) -> Batch:
        """Erases and mixes the images and adds the soft `target` `[b, t]`, unless the batch holds one.

        Images without a label (in pictures) count as class 0. The images as they were stay as `original`.
        """
        if "target" in batch:
            return batch
        images, keys = batch["image"], jax.random.split(key)
        labels = batch.get("label", jnp.zeros(images.shape[0], jnp.int32))
        erased = random_erasing(keys[0], images, self.erasing) if self.erasing else images
        mixed, target = mix(
            keys[1],
            erased,
            labels,
            self.num_classes,
            mixup=self.mixup,
            cutmix=self.cutmix,
            smoothing=self.label_smoothing,
        )
        return batch | {"image": mixed, "target": target, "label": labels, "original": images}

    def loss(
        self, parameters: Parameters, batch: Batch, key: PRNGKeyArray | None = None, memory: Memory | None = None
    ) -> tuple[Float[Array, ""], Outcome]:
        """Cross-entropy with the soft targets; the metric `accuracy` is against the labels before mixing."""
        logits, _ = self.classifier.apply({"params": parameters}, batch["image"], dropout_key=key)
        loss = soft_cross_entropy(logits, batch["target"])
        accuracy = (jnp.argmax(logits, axis=-1) == batch["label"]).astype(jnp.float32).mean()
        return loss, Outcome({"loss": loss, "accuracy": accuracy}, memory or {})

    @property
    def panel_titles(self) -> tuple[str, ...]:
        """Titles of the columns of `panel`."""
        return "augmented", "erased and mixed"

    def panel(self, parameters: Parameters, batch: Batch) -> Float[Array, "b t h w c"]:
        """The images before and after `draw`."""
        return jnp.stack([batch["original"], batch["image"]], axis=1)

    def flops_per_image(self) -> int:
        """FLOPs of a training step per image: three forward passes, less the gradient that the images need not get."""
        return 3 * self.forward_flops() - patch_embedding_flops(self.encoder_config)

    def forward_flops(self) -> int:
        """FLOPs of a forward pass per image."""
        inputs = self.encoder_config.output_width * (2 if self.readout == "class_token_and_mean" else 1)
        heads = 2 if self.readout == "distilled" else 1
        return encoder_flops(self.encoder_config) + 2 * inputs * self.num_classes * heads

    def activation_bytes_per_image(self) -> int:
        """Estimate of the bytes that the backward pass needs saved per image."""
        return saved_bytes(encoder_stages(self.encoder_config), self.computation)
