"""The Swin Transformer and SimMIM in plain PyTorch, to measure against."""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch_vit import Attention, Block


class WindowAttention(nn.Module):
    """Attention within (shifted) windows of a square map, with a bias from a table of relative positions."""

    def __init__(self, width: int, heads: int, side: int, window: int, shift: int, fused: bool):
        super().__init__()
        self.attention = Attention(width, heads, fused)
        self.side, self.window, self.shift = side, window, shift
        self.table = nn.Parameter(0.02 * torch.randn((2 * window - 1) ** 2, heads))
        self.register_buffer("index", relative_index(window))
        self.register_buffer("mask", shift_mask(side, window, shift) if shift else None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, _, width = x.shape
        side, window, shift = self.side, self.window, self.shift
        x = x.view(batch, side, side, width)
        x = torch.roll(x, (-shift, -shift), (1, 2)) if shift else x
        count, tokens = side // window, window**2
        x = x.view(batch, count, window, count, window, width).permute(0, 1, 3, 2, 4, 5)
        x = self.attention(x.reshape(-1, tokens, width), self.bias(batch))
        x = x.view(batch, count, count, window, window, width).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, side, side, width)
        return (torch.roll(x, (shift, shift), (1, 2)) if shift else x).reshape(batch, side**2, width)

    def bias(self, batch: int) -> torch.Tensor:
        """What is added to the logits `[windows, heads, n, n]`."""
        tokens = self.window**2
        bias = self.table[self.index.reshape(-1)].reshape(tokens, tokens, -1).permute(2, 0, 1)[None]
        return bias if self.mask is None else (bias + self.mask[:, None]).repeat(batch, 1, 1, 1)


def relative_index(window: int) -> torch.Tensor:
    """Row of the table of every pair of tokens of a window."""
    row, column = torch.arange(window**2) // window, torch.arange(window**2) % window
    rows, columns = (axis[:, None] - axis[None] + window - 1 for axis in (row, column))
    return rows * (2 * window - 1) + columns


def shift_mask(side: int, window: int, shift: int) -> torch.Tensor:
    """-100 between tokens that only the shift brought into one window."""
    place = torch.arange(side)
    band = (place >= side - window).int() + (place >= side - shift)
    count = side // window
    region = (3 * band[:, None] + band).view(count, window, count, window).permute(0, 2, 1, 3).reshape(count**2, -1)
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, -100.0)


class Merging(nn.Module):
    """Makes one token of every 2x2."""

    def __init__(self, width: int, side: int):
        super().__init__()
        self.side = side
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(len(x), self.side, self.side, -1)
        parts = [x[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
        return self.reduction(self.norm(torch.cat(parts, dim=-1).flatten(1, 2)))


@dataclasses.dataclass(frozen=True)
class SwinSize:
    """Sizes of a Swin Transformer. The defaults are Swin-B with windows of 6 at 192 pixels."""

    image: int = 192
    width: int = 128
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    window: int = 6


class SimMIM(nn.Module):
    """SimMIM on a Swin Transformer with patches of 4: mean absolute error of the masked pixels."""

    def __init__(self, size: SwinSize, fused: bool = False):
        super().__init__()
        self.patch_embed, self.patch_norm = nn.Conv2d(3, size.width, 4, 4), nn.LayerNorm(size.width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, size.width))
        layers: list[nn.Module] = []
        for stage, (depth, heads) in enumerate(zip(size.depths, size.heads)):
            width, side = size.width * 2**stage, size.image // 4 // 2**stage
            window, shift = min(side, size.window), size.window // 2 if side > size.window else 0
            for layer in range(depth):
                attention = WindowAttention(width, heads, side, window, shift * (layer % 2), fused)
                layers.append(Block(width, attention, 1e-5))
            if stage < len(size.depths) - 1:
                layers.append(Merging(width, side))
        self.layers, self.norm = nn.Sequential(*layers), nn.LayerNorm(width)
        self.stride = 4 * 2 ** (len(size.depths) - 1)
        self.decoder = nn.Conv2d(width, 3 * self.stride**2, 1)

    def forward(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.patch_norm(self.patch_embed(images).flatten(2).transpose(1, 2))
        x = x * (1 - mask[:, :, None]) + self.mask_token * mask[:, :, None]
        x = self.norm(self.layers(x)).transpose(1, 2)
        side = math.isqrt(x.shape[-1])
        prediction = F.pixel_shuffle(self.decoder(x.reshape(len(x), -1, side, side)), self.stride)
        cells = math.isqrt(mask.shape[1])
        masked = mask.view(-1, 1, cells, cells).repeat_interleave(4, 2).repeat_interleave(4, 3)
        return ((images - prediction).abs() * masked).sum() / (masked.sum() + 1e-5) / 3
