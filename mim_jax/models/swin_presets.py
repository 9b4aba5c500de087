"""Named Swin Transformers of the literature."""

from typing import Any

TINY = {"width": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)}
SMALL = {"width": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)}
BASE = {"width": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)}
LARGE = {"width": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48)}
HUGE = {"width": 352, "depths": (2, 2, 18, 2), "num_heads": (11, 22, 44, 88), "norm_every": 6}
GIANT = {"width": 448, "depths": (2, 2, 18, 2), "num_heads": (14, 28, 56, 112), "norm_every": 6}

# Version 2 as SimMIM pre-trains it; whatever it is trained for later, its offsets relate to these windows.
SIMMIM_V2 = {"version": 2, "image_size": (192, 192), "window": 12, "pretrained_windows": (12, 12, 12, 6)}


def _version_1(size: dict[str, Any], side: int, window: int) -> dict[str, Any]:
    return {"version": 1, "image_size": (side, side), "window": window} | size


SWIN_ENCODERS: dict[str, dict[str, Any]] = {
    "swin_tiny_patch4_window7": _version_1(TINY, 224, 7),
    "swin_small_patch4_window7": _version_1(SMALL, 224, 7),
    "swin_base_patch4_window7": _version_1(BASE, 224, 7),
    "swin_large_patch4_window7": _version_1(LARGE, 224, 7),
    "swin_base_patch4_window12_384": _version_1(BASE, 384, 12),
    "swin_large_patch4_window12_384": _version_1(LARGE, 384, 12),
    "swin_base_patch4_window6_192": _version_1(BASE, 192, 6),
    "swin_large_patch4_window12_192": _version_1(LARGE, 192, 12),
    "swin_large_patch4_window14": _version_1(LARGE, 224, 14),
    "swinv2_tiny": SIMMIM_V2 | TINY,
    "swinv2_small": SIMMIM_V2 | SMALL,
    "swinv2_base": SIMMIM_V2 | BASE,
    "swinv2_large": SIMMIM_V2 | LARGE,
    "swinv2_huge": SIMMIM_V2 | HUGE,
    "swinv2_giant": SIMMIM_V2 | GIANT,
    "swinv2_base_window14_224": SIMMIM_V2 | BASE | {"image_size": (224, 224), "window": 14},
}
"""Encoder name to the fields of its `SwinConfig`.

Version 1: the sizes of Liu et al. (2021), and the image sizes and windows that SimMIM pre-trains (192) and fine-tunes
(224) with. Version 2: as SimMIM pre-trains it, and its fine-tuning.
"""
