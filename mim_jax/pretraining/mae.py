"""Masked autoencoders (He et al. 2022): encode the visible patches, reconstruct the others."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mim_jax.models.applying import apply, encode
from mim_jax.models.attention import AttentionConfig
from mim_jax.models.blocks import BlockConfig, Blocks, Computation
from mim_jax.models.build import AnyEncoderConfig, initial_parameters
from mim_jax.models.embedding import PositionTable
from mim_jax.models.flops import (
    Stage,
    encoder_flops,
    encoder_stages,
    patch_embedding_flops,
    saved_bytes,
    stage_flops,
    stage_of_blocks,
)
from mim_jax.models.layers import Dense, LayerNorm
from mim_jax.models.presets import DECODERS, MAE_MODELS, encoder_config, preset
from mim_jax.models.stacking import unstack_blocks
from mim_jax.models.vit import VisionTransformer, VisionTransformerConfig
from mim_jax.ops.masking import RandomMask, number_kept, random_mask, restore_tokens
from mim_jax.ops.patches import denormalise_patches, normalise_patches, patchify, unpatchify
from mim_jax.ops.showing import shown
from mim_jax.pretraining.masking import check_masking, draw_mask
from mim_jax.pretraining.objective import Batch, Memory, Memoryless, Outcome, Parameters


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the decoder: width, number of blocks, heads, and the rest as in an encoder."""

    width: int = 512
    depth: int = 8
    num_heads: int = 16
    mlp_ratio: float = 4.0
    norm_epsilon: float = 1e-6
    activation: str = "gelu"

    @property
    def block(self) -> BlockConfig:
        """What defines a block."""
        return BlockConfig(
            AttentionConfig(self.num_heads),
            mlp_ratio=self.mlp_ratio,
            norm_epsilon=self.norm_epsilon,
            activation=self.activation,
        )


class Decoder(nn.Module):
    """Light transformer over all patches that predicts every patch's values."""

    config: DecoderConfig
    grid: tuple[int, int]
    patch_values: int
    prefix: int = 1
    computation: Computation = Computation()

    @nn.compact
    def __call__(self, latent: Float[Array, "b m d"], restore: Int[Array, "b n"]) -> Float[Array, "b n p"]:
        """Decodes prefix tokens and visible tokens, `restore` telling where each belongs."""
        config, dtype = self.config, jnp.dtype(self.computation.dtype)
        visible = Dense((config.width,), dtype=dtype, name="embed")(latent)
        mask_token = self.param("mask_token", nn.initializers.normal(0.02), (config.width,))
        patches = restore_tokens(visible[:, self.prefix :], mask_token, restore)
        positions = PositionTable(self.grid, config.width, self.prefix, name="pos_embed")()
        tokens = jnp.concatenate([visible[:, : self.prefix], patches], axis=1) + positions
        blocks = Blocks(config.depth, config.block, computation=self.computation, name="blocks")
        tokens, _, _ = blocks(tokens.astype(dtype))
        tokens = LayerNorm(config.norm_epsilon, dtype, name="norm")(tokens)
        return Dense((self.patch_values,), dtype=dtype, result=jnp.float32, name="pred")(tokens[:, self.prefix :])


class Reconstruction(NamedTuple):
    """Everything that a forward pass of MAE gives.

    Attributes:
        latent: prefix tokens and visible tokens after the encoder's norm, `[b, p + m, d]`.
        mask: which patches were seen.
        prediction: predicted patches (normalised ones if the target is), `[b, n, p]`.
    """

    latent: Float[Array, "b m d"]
    mask: RandomMask
    prediction: Float[Array, "b n p"]

    def __repr__(self) -> str:
        return shown(self)


@dataclasses.dataclass(frozen=True)
class MaskedAutoencoder(Memoryless):
    """The MAE objective.

    Attributes:
        encoder_config: the encoder.
        decoder_config: the decoder.
        mask_ratio: share of the patches that is removed.
        normalise_target: predict every patch normalised to mean 0 and deviation 1 (`norm_pix_loss`).
        masking: how the patches are chosen, a name of `ops.masks.MASKINGS`; where that masks fewer than the ratio says,
            a random choice of the others goes too.
        computation: how it is computed.
    """

    encoder_config: AnyEncoderConfig
    decoder_config: DecoderConfig = DecoderConfig()
    mask_ratio: float = 0.75
    normalise_target: bool = False
    masking: str = "uniform"
    computation: Computation = Computation()

    def __post_init__(self) -> None:
        config = self.encoder_config
        if not isinstance(config, VisionTransformerConfig) or config.relative_position_bias != "none":
            raise ValueError(
                "MAE leaves patches out, which needs a Vision Transformer without relative position bias; choose such "
                "an encoder, or SimMIM"
            )
        check_masking(self.masking, self.mask_ratio, config.grid)
        number_kept(config.patches, self.mask_ratio)
        if self.decoder_config.width % self.decoder_config.num_heads:
            raise ValueError(
                f"decoder width {self.decoder_config.width} is not divisible by {self.decoder_config.num_heads} heads"
            )

    @property
    def vit_config(self) -> VisionTransformerConfig:
        """The encoder's configuration: no other encoder can leave patches out."""
        assert isinstance(self.encoder_config, VisionTransformerConfig)
        return self.encoder_config

    @property
    def encoder(self) -> VisionTransformer:
        """The encoder's module."""
        return VisionTransformer(self.vit_config, self.computation)

    @property
    def decoder(self) -> Decoder:
        """The decoder's module."""
        config = self.vit_config
        return Decoder(self.decoder_config, config.grid, config.patch_values, config.prefix, self.computation)

    @property
    def kept(self) -> int:
        """Number of patches that the encoder sees."""
        return number_kept(self.vit_config.patches, self.mask_ratio)

    def init(self, key: PRNGKeyArray) -> Parameters:
        """Fresh parameters `{"encoder": ..., "decoder": ...}`, initialised as the original, in per-block form."""
        config = self.vit_config
        keys = jax.random.split(key)
        # Made stacked, so that one block is compiled whatever the depth.
        decoder = dataclasses.replace(self, computation=Computation(scan_blocks=True)).decoder
        latent = jnp.zeros((1, config.prefix + self.kept, config.width))
        stacked = decoder.init(keys[1], latent, jnp.zeros((1, config.patches), jnp.int32))["params"]
        return {"encoder": initial_parameters(config, keys[0]), "decoder": unstack_blocks(stacked)}

    def draw(self, batch: Batch, key: PRNGKeyArray) -> Batch:
        """Adds the `noise` `[b, n]` that decides the mask, unless the batch holds some."""
        if "noise" in batch:
            return batch
        return batch | {"noise": self.noise(key, batch["image"].shape[0])}

    def noise(self, key: PRNGKeyArray, batch: int) -> Float[Array, "b n"]:
        """What decides the mask: the patches with the smallest noise stay."""
        config = self.vit_config
        noise = jax.random.uniform(key, (batch, config.patches))
        if self.masking == "uniform":
            return noise
        mask_key = jax.random.fold_in(key, 1)
        return noise + draw_mask(self.masking, mask_key, batch, ratio=self.mask_ratio, grid=config.grid)

    def reconstruct(self, parameters: Parameters, batch: Batch, key: PRNGKeyArray | None = None) -> Reconstruction:
        """Masks by the batch's noise, encodes what is visible, decodes everything."""
        mask = random_mask(batch["noise"], self.mask_ratio)
        encoded = encode(self.encoder, parameters["encoder"], batch["image"], keep=mask.keep, dropout_key=key)
        prediction = apply(self.decoder, parameters["decoder"], encoded.tokens, mask.restore)
        return Reconstruction(jnp.asarray(encoded.tokens), mask, prediction)

    def loss(
        self, parameters: Parameters, batch: Batch, key: PRNGKeyArray | None = None, memory: Memory | None = None
    ) -> tuple[Float[Array, ""], Outcome]:
        """Mean squared error over the removed patches of the whole batch."""
        loss = self.reconstruction_error(self.reconstruct(parameters, batch, key), batch["image"])
        return loss, Outcome({"loss": loss}, memory or {})

    def reconstruction_error(self, out: Reconstruction, images: Float[Array, "b h w c"]) -> Float[Array, ""]:
        """Mean squared error of a reconstruction over the removed patches."""
        target = patchify(images, self.encoder_config.patch_size)
        if self.normalise_target:
            target = normalise_patches(target)
        error = jnp.square(out.prediction - target).mean(axis=-1)
        return (error * out.mask.mask).sum() / jnp.maximum(out.mask.mask.sum(), 1)

    @property
    def panel_titles(self) -> tuple[str, ...]:
        """Titles of the columns of `panel`."""
        return "original", "masked", "reconstruction", "visible pasted in"

    def panel(self, parameters: Parameters, batch: Batch) -> Float[Array, "b t h w c"]:
        """Original, masked, reconstruction, and reconstruction with the visible patches pasted in.

        A normalised prediction gets the mean and deviation of the original patch back.
        """
        config = self.vit_config
        out = self.reconstruct(parameters, batch)
        original = patchify(batch["image"], config.patch_size)
        prediction = denormalise_patches(out.prediction, original) if self.normalise_target else out.prediction
        removed = out.mask.mask[:, :, None]
        visible = original * (1 - removed)
        columns = (original, visible, prediction, visible + prediction * removed)
        return jnp.stack([unpatchify(column, config.grid, config.patch_size) for column in columns], axis=1)

    def flops_per_image(self) -> int:
        """FLOPs of a training step per image: three forward passes, less the gradient that the images need not get."""
        return 3 * self.forward_flops() - patch_embedding_flops(self.encoder_config, self.kept)

    def forward_flops(self) -> int:
        """FLOPs of a forward pass per image; the encoder's are counted on visible tokens only."""
        config, decoder = self.vit_config, self.decoder_config
        embed = 2 * (config.prefix + self.kept) * config.width * decoder.width
        predict = 2 * config.patches * decoder.width * config.patch_values
        return encoder_flops(config, self.kept) + embed + stage_flops(self._decoder_stage) + predict

    def activation_bytes_per_image(self) -> int:
        """Estimate of the bytes that the backward pass needs saved per image."""
        stages = [*encoder_stages(self.encoder_config, self.kept), self._decoder_stage]
        return saved_bytes(stages, self.computation)

    @property
    def _decoder_stage(self) -> Stage:
        config, decoder = self.vit_config, self.decoder_config
        return stage_of_blocks(config.prefix + config.patches, decoder.width, decoder.depth, decoder.block)


def mae_preset(name: str, **options: Any) -> MaskedAutoencoder:
    """A model of the original code by its name, such as "mae_vit_base_patch16"; `options` are other fields.

    Raises InputError for an unknown name, with the nearest.
    """
    encoder, decoder = preset(MAE_MODELS, name, "MAE model")
    return MaskedAutoencoder(encoder_config(encoder), DecoderConfig(**DECODERS[decoder]), **options)
