"""One training step of MAE, SimMIM and LUT in plain PyTorch, to measure against: forward, backward, AdamW.

With `fused`, attention is `scaled_dot_product_attention` and the optimizer the fused AdamW.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch_swin import SimMIM, SwinSize
from torch_vit import LUT, MAE, ViTSize

MODELS: dict[str, tuple[type[nn.Module], Any]] = {
    "mae": (MAE, ViTSize()),
    "simmim": (SimMIM, SwinSize()),
    "lut": (LUT, ViTSize()),
}
"""Workload to its module and the published size."""


def make_step(
    name: str, size: Any = None, *, fused: bool = False, bfloat16: bool = False
) -> tuple[nn.Module, Callable[..., torch.Tensor]]:
    """A model and the function that trains it by one step, `(images, noise or mask) -> loss`.

    Gradients are freed with every step, as the optimizer's default does. `bfloat16` runs the forward pass in autocast.
    """
    module, published = MODELS[name]
    model = module(size or published, fused)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=fused or None)

    def step(images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = model(images, drawn)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if hasattr(model, "after_step"):
            model.after_step()
        return loss.detach()

    return model, step
