"""SimMIM (Xie et al. 2022): encode the image with mask tokens in it, predict the pixels behind them."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from mim_jax.models.applying import apply, encode
from mim_jax.models.blocks import Computation
from mim_jax.models.build import AnyEncoderConfig, initial_parameters, make_encoder
from mim_jax.models.flops import encoder_flops, encoder_stages, patch_embedding_flops, saved_bytes
from mim_jax.models.layers import Dense
from mim_jax.models.presets import SIMMIM_MODELS, encoder_config, preset
from mim_jax.ops.local_normalization import local_mean_and_deviation
from mim_jax.ops.masks import spread_cells
from mim_jax.ops.showing import shown
from mim_jax.pretraining.masking import Pair, check_masking, draw_mask, mask_cells
from mim_jax.pretraining.objective import Batch, Memory, Memoryless, Outcome, Parameters

MASKED_PIXELS_EPSILON = 1e-5

DEFAULT_MASK_PATCH = 32
"""Side in pixels of the published models' mask cells."""

FEWEST_CELLS = 4
"""Cells of that side that an image must have for them to be taken without being asked for."""


class Reconstruction(NamedTuple):
    """Everything that a forward pass of SimMIM gives.

    Attributes:
        tokens: the encoder's last patch tokens, row-major, `[b, n, d]`.
        prediction: predicted image, `[b, h, w, c]`.
        mask: 1 where a pixel was masked, `[b, h, w, 1]`.
    """

    tokens: Float[Array, "b n d"]
    prediction: Float[Array, "b h w c"]
    mask: Float[Array, "b h w 1"]

    def __repr__(self) -> str:
        return shown(self)


@dataclasses.dataclass(frozen=True)
class SimMIM(Memoryless):
    """The SimMIM objective on any encoder that has a mask token.

    Attributes:
        encoder_config: the encoder.
        mask_ratio: share of the mask cells that is masked, rounded up.
        mask_patch: side of a mask cell in pixels.
        masking: how the cells are chosen, a name of `ops.masks.MASKINGS`.
        target_window: side in pixels of the window by which the target is normalised locally (SwinV2); 0 for none.
        computation: how it is computed.
    """

    encoder_config: AnyEncoderConfig
    mask_ratio: float = 0.6
    mask_patch: int = DEFAULT_MASK_PATCH
    masking: str = "coarse"
    target_window: int = 0
    computation: Computation = Computation()

    def __post_init__(self) -> None:
        if not self.encoder_config.mask_token:
            raise ValueError("SimMIM needs an encoder with a mask token; set mask_token to True")
        if self.target_window and self.target_window % 2 == 0:
            raise ValueError(f"the window of the target must be odd, not {self.target_window} pixels")
        check_masking(self.masking, self.mask_ratio, self._cells[0])

    @property
    def encoder(self) -> nn.Module:
        """The encoder's module."""
        return make_encoder(self.encoder_config, self.computation)

    @property
    def decoder(self) -> Dense:
        """The decoder's module: one linear map from a token to the pixels that it stands for."""
        config = self.encoder_config
        features = (config.channels, *config.output_stride)
        dtype = jnp.dtype(self.computation.dtype)
        return Dense(features, kernel_init="torch_default", dtype=dtype, result=jnp.float32)

    @property
    def _cells(self) -> tuple[Pair, Pair]:
        config = self.encoder_config
        return mask_cells(config.image_size, config.patch_size, self.mask_patch)

    def init(self, key: PRNGKeyArray) -> Parameters:
        """Fresh parameters `{"encoder": ..., "decoder": ...}`, initialised as the original, in per-block form."""
        keys = jax.random.split(key)
        decoder = self.decoder.init(keys[1], jnp.zeros((1, 1, self.encoder_config.output_width)))
        return {"encoder": initial_parameters(self.encoder_config, keys[0]), "decoder": decoder["params"]}

    def draw(self, batch: Batch, key: PRNGKeyArray) -> Batch:
        """Adds the `mask` `[b, n]` of patches, 1 for masked ones, unless the batch holds one."""
        if "mask" in batch:
            return batch
        grid, cell = self._cells
        images = batch["image"].shape[0]
        return batch | {"mask": draw_mask(self.masking, key, images, ratio=self.mask_ratio, grid=grid, cell=cell)}

    def reconstruct(self, parameters: Parameters, batch: Batch, key: PRNGKeyArray | None = None) -> Reconstruction:
        """Encodes with the masked patches replaced, and predicts the whole image."""
        config, mask = self.encoder_config, batch["mask"]
        out = encode(self.encoder, parameters["encoder"], batch["image"], mask=mask, dropout_key=key)
        pixels = apply(self.decoder, parameters["decoder"], out.patches)
        prediction = rearrange(pixels, "b (y x) c p q -> b (y p) (x q) c", y=out.grid[0])
        masked = spread_cells(mask, config.grid, config.patch_size)
        return Reconstruction(out.patches, prediction, masked.reshape(-1, *config.image_size, 1))

    def loss(
        self, parameters: Parameters, batch: Batch, key: PRNGKeyArray | None = None, memory: Memory | None = None
    ) -> tuple[Float[Array, ""], Outcome]:
        """Mean absolute error over the masked pixels of the whole batch."""
        out = self.reconstruct(parameters, batch, key)
        error = (jnp.abs(self.target(batch["image"]) - out.prediction) * out.mask).sum()
        loss = error / (out.mask.sum() + MASKED_PIXELS_EPSILON) / self.encoder_config.channels
        return loss, Outcome({"loss": loss}, memory or {})

    def target(self, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """What is to be predicted: the image, perhaps locally normalised."""
        mean, deviation = self._statistics(images)
        return (images - mean) / deviation

    def _statistics(self, images: Float[Array, "b h w c"]) -> tuple[Array | float, Array | float]:
        return local_mean_and_deviation(images, self.target_window) if self.target_window else (0.0, 1.0)

    @property
    def panel_titles(self) -> tuple[str, ...]:
        """Titles of the columns of `panel`."""
        return "original", "masked", "reconstruction", "visible pasted in"

    def panel(self, parameters: Parameters, batch: Batch) -> Float[Array, "b t h w c"]:
        """Original, masked, reconstruction, and reconstruction with the visible pixels pasted in.

        A locally normalised prediction gets the mean and deviation of the original's surroundings back.
        """
        out, original = self.reconstruct(parameters, batch), batch["image"]
        mean, deviation = self._statistics(original)
        prediction = out.prediction * deviation + mean
        visible = original * (1 - out.mask)
        return jnp.stack([original, visible, prediction, visible + prediction * out.mask], axis=1)

    def flops_per_image(self) -> int:
        """FLOPs of a training step per image: three forward passes, less the gradient that the images need not get."""
        return 3 * self.forward_flops() - patch_embedding_flops(self.encoder_config)

    def forward_flops(self) -> int:
        """FLOPs of a forward pass per image."""
        config = self.encoder_config
        pixels = config.image_size[0] * config.image_size[1] * config.channels
        return encoder_flops(config) + 2 * pixels * config.output_width

    def activation_bytes_per_image(self) -> int:
        """Estimate of the bytes that the backward pass needs saved per image."""
        return saved_bytes(encoder_stages(self.encoder_config), self.computation)


def fitting_mask_patch(config: AnyEncoderConfig, wanted: int = DEFAULT_MASK_PATCH) -> int:
    """Side in pixels of a mask cell for an encoder of any image size: `wanted` if it fits, else the finest that does.

    SimMIM's cells of 32 pixels are not for every image; where fewer than four would be left they are too coarse.
    """
    rows, columns = (side // wanted for side in config.image_size)
    finest = math.lcm(*config.patch_size)
    sides = ((wanted,) if rows * columns >= FEWEST_CELLS else ()) + (math.lcm(*config.output_stride), finest)
    axes = tuple(zip(config.patch_size, config.image_size))
    return next((side for side in sides if all(side % patch == size % side == 0 for patch, size in axes)), finest)


def simmim_preset(name: str, **options: Any) -> SimMIM:
    """A published model by its name, such as "simmim_swin_base_window6_192"; `options` are other fields.

    Raises InputError for an unknown name, with the nearest.
    """
    encoder, fields = preset(SIMMIM_MODELS, name, "SimMIM model")
    return SimMIM(encoder_config(encoder, mask_token=True), **(fields | options))
