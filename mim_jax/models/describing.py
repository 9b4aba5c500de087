"""Encoders in a sentence."""

from mim_jax.models.build import AnyEncoderConfig
from mim_jax.models.swin_config import SwinConfig


def encoder_in_words(config: AnyEncoderConfig) -> str:
    """Family, width, depth, heads, patches, images and prefix tokens of an encoder."""
    height, width = config.image_size
    return (
        f"{_family(config)}, {_joined(config.depths)} blocks, {_joined(config.num_heads)} heads, "
        f"patches of {config.patch_size[0]}x{config.patch_size[1]}, images of {height}x{width}x{config.channels}, "
        f"{config.prefix} prefix token{'s' * (config.prefix != 1)}"
    )


def _family(config: AnyEncoderConfig) -> str:
    if isinstance(config, SwinConfig):
        return f"Swin Transformer {'V2 ' * (config.version == 2)}of width {config.width}"
    return f"Vision Transformer of width {config.width}"


def _joined(numbers: int | tuple[int, ...]) -> str:
    return "-".join(map(str, numbers)) if isinstance(numbers, tuple) else str(numbers)
