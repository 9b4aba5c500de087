"""The image size that weights show, or that is asked for."""

import numpy as np
import pytest

from mim_jax.errors import InputError
from mim_jax.ops.windows import shift_mask
from mim_jax.weights.loading import load
from mim_jax.weights.swin_size import count_windows
from tests.weights import small
from tests.weights.writing import write_arrays

PATCH = 16


def simmim(grid):
    """SimMIM on a small Vision Transformer with a shared relative position bias, patches of 16 pixels."""
    draw, width = small.Draw(5), small.WIDTH
    arrays = {name: value for name, value in small.vit().items() if name != "pos_embed"}
    arrays |= {
        "patch_embed.proj.weight": draw(width, 3, PATCH, PATCH),
        "mask_token": draw(1, 1, width),
        "rel_pos_bias.relative_position_bias_table": draw((2 * grid - 1) ** 2 + 3, small.HEADS),
    }
    return small.prefixed("encoder.", arrays) | {
        "decoder.0.weight": draw(3 * PATCH**2, width, 1, 1),
        "decoder.0.bias": draw(3 * PATCH**2),
    }


@pytest.mark.parametrize("size", [32, 48, 80, 112, 192, 208, 240])
def test_simmim_is_read_whatever_its_image_size(tmp_path, size):
    model = load(write_arrays(tmp_path / "simmim.pth", {"model": simmim(size // PATCH)}))
    assert model.encoder_config.image_size == (size, size)
    assert size % model.objective.mask_patch == 0 and any("mask_patch=" in note for note in model.notes)


@pytest.mark.parametrize("grid", [(8, 8), (4, 12), (12, 4), (8, 4)])
def test_masks_of_shifted_windows_show_their_map(grid):
    mask = np.asarray(shift_mask(grid, (4, 4), (2, 2)))[:, 0]
    seen = count_windows(mask, (4, 4))
    assert seen == (grid[0] // 4, grid[1] // 4) or (1 in (grid[0] // 4, grid[1] // 4) and seen is None)


def swin(grid):
    """A Swin with the mask of its first stage's shifted windows."""
    block = small.block(small.Draw(6), "layers.0.blocks.1", small.WIDTH)
    table = {"layers.0.blocks.1.attn.relative_position_bias_table": small.Draw(7)(9, small.HEADS)}
    mask = np.asarray(shift_mask(grid, (2, 2), (1, 1)), np.float32)[:, 0]
    return small.swin() | block | table | {"layers.0.blocks.1.attn_mask": mask}


@pytest.mark.parametrize("grid", [(4, 8), (8, 4), (8, 8)])
def test_a_swin_has_the_size_that_its_masks_show(tmp_path, grid):
    model = load(write_arrays(tmp_path / "swin.pth", swin(grid)))
    assert model.encoder_config.image_size == (grid[0] * small.PATCH, grid[1] * small.PATCH)


def test_biases_of_another_size_than_is_stated_are_refused(tmp_path):
    path = write_arrays(tmp_path / "simmim.pth", simmim(3))
    with pytest.raises(InputError, match="image_size is 80,80 by --set image_size, .*but its relative position biases"):
        load(path, stated={"image_size": (80, 80)})
