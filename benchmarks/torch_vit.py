"""Vision Transformers, MAE and LUT in plain PyTorch, to measure against.

Written as such code usually is: attention by two products and a softmax, modules called one by one. With `fused`,
attention is `scaled_dot_product_attention`.
"""

import copy
import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from mim_jax.ops.positions import sincos_position_table


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int, fused: bool):
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        batch, tokens, width = x.shape
        heads = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(query, key, value, bias) if self.fused else attend(query, key, value, bias)
        return self.proj(out.transpose(1, 2).reshape(x.shape))


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Softmax attention step by step."""
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    logits = logits if bias is None else logits + bias
    return logits.softmax(dim=-1) @ value


class Block(nn.Module):
    """Pre-norm block; Swin replaces the attention."""

    def __init__(self, width: int, attention: nn.Module, epsilon: float):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=epsilon) for _ in range(2))
        self.attn = attention
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def vit_blocks(width: int, depth: int, heads: int, fused: bool) -> nn.Sequential:
    """Blocks with global attention."""
    return nn.Sequential(*[Block(width, Attention(width, heads, fused), 1e-6) for _ in range(depth)])


@dataclasses.dataclass(frozen=True)
class ViTSize:
    """Sizes of encoder and decoder. The defaults are ViT-B/16 with MAE's decoder at 224 pixels."""

    image: int = 224
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16

    @property
    def side(self) -> int:
        return self.image // self.patch


class MAE(nn.Module):
    """Masked autoencoder: loss on normalised pixels of the removed patches."""

    def __init__(self, size: ViTSize, fused: bool = False):
        super().__init__()
        self.patch, self.kept = size.patch, size.side**2 // 4
        self.patch_embed = nn.Conv2d(3, size.width, size.patch, size.patch)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, size.width))
        self.blocks, self.norm = vit_blocks(size.width, size.depth, size.heads, fused), nn.LayerNorm(size.width, 1e-6)
        self.decoder_embed = nn.Linear(size.width, size.decoder_width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, size.decoder_width))
        self.decoder_blocks = vit_blocks(size.decoder_width, size.decoder_depth, size.decoder_heads, fused)
        self.decoder_norm = nn.LayerNorm(size.decoder_width, 1e-6)
        self.decoder_pred = nn.Linear(size.decoder_width, 3 * size.patch**2)
        for name, width in (("pos_embed", size.width), ("decoder_pos_embed", size.decoder_width)):
            table = torch.tensor(sincos_position_table((size.side, size.side), width, prefix=1), dtype=torch.float32)
            self.register_buffer(name, table[None])

    def encode(self, images: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        x = self.patch_embed(images).flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
        if kept is not None:
            x = x.gather(1, kept[:, :, None].expand(-1, -1, x.shape[-1]))
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        return self.norm(self.blocks(torch.cat([first, x], dim=1)))

    def decode(self, latent: torch.Tensor, restore: torch.Tensor) -> torch.Tensor:
        x = self.decoder_embed(latent)
        removed = self.mask_token.expand(len(x), restore.shape[1] + 1 - x.shape[1], -1)
        patches = torch.cat([x[:, 1:], removed], dim=1)
        patches = patches.gather(1, restore[:, :, None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([x[:, :1], patches], dim=1) + self.decoder_pos_embed
        return self.decoder_pred(self.decoder_norm(self.decoder_blocks(x)))[:, 1:]

    def autoencode(self, images: torch.Tensor, shuffle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The latent tokens, and the loss."""
        latent, restore = self.encode(images, shuffle[:, : self.kept]), shuffle.argsort(dim=1)
        target = self.patchify(images)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        error = (self.decode(latent, restore) - target).square().mean(-1)
        mask = (restore >= self.kept).float()
        return latent, (error * mask).sum() / mask.sum()

    def patchify(self, images: torch.Tensor) -> torch.Tensor:
        side = images.shape[-1] // self.patch
        cut = images.reshape(len(images), 3, side, self.patch, side, self.patch)
        return cut.permute(0, 2, 4, 3, 5, 1).reshape(len(images), side**2, -1)

    def forward(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return self.autoencode(images, noise.argsort(dim=1))[1]


def head(width: int, hidden: int) -> nn.Sequential:
    """Two linear maps with batch norm and ReLU between."""
    first, last = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(), last)


class LUT(nn.Module):
    """MAE on view 1, and agreement of both masked views with a teacher that sees the other view whole."""

    def __init__(self, size: ViTSize, fused: bool = False, hidden: int = 4096):
        super().__init__()
        self.mae = MAE(size, fused)
        self.projector, self.predictor = head(size.width, hidden), head(size.width, hidden)
        self.teacher = copy.deepcopy(self).eval().requires_grad_(False)

    def forward(self, views: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        shuffle, kept = noise.argsort(dim=1), self.mae.kept
        first, reconstruction = self.mae.autoencode(views[:, 0], shuffle)
        second = self.mae.encode(views[:, 1], shuffle[:, kept : 2 * kept])
        students = [self.predictor(self.projector(z[:, 1:].mean(1))) for z in (first, second)]
        with torch.no_grad():
            latents = [self.teacher.mae.encode(views[:, view]) for view in (0, 1)]
            teachers = [self.teacher.projector(z[:, 1:].mean(1)) for z in latents]
        distances = [2 - 2 * F.cosine_similarity(s, t).mean() for s, t in zip(students, teachers[::-1])]
        return reconstruction + 0.25 * sum(distances) / 2

    @torch.no_grad()
    def after_step(self, momentum: float = 0.996) -> None:
        """Moves the teacher towards the student."""
        student = self.state_dict()
        for name, value in self.teacher.state_dict().items():
            if value.is_floating_point():
                value.lerp_(student[name], 1 - momentum)
