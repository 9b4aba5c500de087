"""Small whole networks in the names of their authors, made of seeded random numbers."""

import numpy as np

WIDTH, HEADS, PATCH, CELLS = 8, 2, 2, 2

Arrays = dict[str, np.ndarray]

STATED = {
    "vit": {"num_heads": HEADS},
    "mae": {"num_heads": HEADS, "decoder.num_heads": HEADS},
    "swin": {},
    "hugging_face": {"num_heads": HEADS},
}
"""What has to be stated of each kind."""


class Draw:
    """Random numbers of any shape."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> np.ndarray:
        return self.rng.normal(scale=0.2, size=shape).astype(np.float32)


def dense(draw: Draw, name: str, outputs: int, inputs: int, bias: bool = True) -> Arrays:
    """A linear layer."""
    return {f"{name}.weight": draw(outputs, inputs)} | ({f"{name}.bias": draw(outputs)} if bias else {})


def norm(draw: Draw, name: str, width: int) -> Arrays:
    """A layer norm."""
    return {f"{name}.weight": 1 + draw(width), f"{name}.bias": draw(width)}


def block(draw: Draw, name: str, width: int) -> Arrays:
    """A block in the names of timm."""
    return {
        **norm(draw, f"{name}.norm1", width),
        **dense(draw, f"{name}.attn.qkv", 3 * width, width),
        **dense(draw, f"{name}.attn.proj", width, width),
        **norm(draw, f"{name}.norm2", width),
        **dense(draw, f"{name}.mlp.fc1", 2 * width, width),
        **dense(draw, f"{name}.mlp.fc2", width, 2 * width),
    }


def vit(seed: int = 0, depth: int = 1, last_norm: bool = True) -> Arrays:
    """A Vision Transformer without a head."""
    draw = Draw(seed)
    arrays = {"cls_token": draw(1, 1, WIDTH), "pos_embed": draw(1, CELLS**2 + 1, WIDTH)}
    arrays |= {"patch_embed.proj.weight": draw(WIDTH, 3, PATCH, PATCH), "patch_embed.proj.bias": draw(WIDTH)}
    for layer in range(depth):
        arrays |= block(draw, f"blocks.{layer}", WIDTH)
    return arrays | (norm(draw, "norm", WIDTH) if last_norm else {})


def mae(seed: int = 0) -> Arrays:
    """A masked autoencoder."""
    draw, pixels = Draw(seed + 1), 3 * PATCH**2
    return vit(seed) | {
        "mask_token": draw(1, 1, WIDTH),
        "decoder_pos_embed": draw(1, CELLS**2 + 1, WIDTH),
        **dense(draw, "decoder_embed", WIDTH, WIDTH),
        **block(draw, "decoder_blocks.0", WIDTH),
        **norm(draw, "decoder_norm", WIDTH),
        **dense(draw, "decoder_pred", pixels, WIDTH),
    }


def swin(seed: int = 0) -> Arrays:
    """A Swin Transformer of two stages, images of 8 pixels, windows of 2 tokens."""
    draw = Draw(seed)
    arrays = {"patch_embed.proj.weight": draw(WIDTH, 3, PATCH, PATCH), "patch_embed.proj.bias": draw(WIDTH)}
    arrays |= norm(draw, "patch_embed.norm", WIDTH)
    for stage, width in enumerate((WIDTH, 2 * WIDTH)):
        name = f"layers.{stage}.blocks.0"
        arrays |= block(draw, name, width) | {f"{name}.attn.relative_position_bias_table": draw(9, HEADS)}
    arrays |= norm(draw, "layers.0.downsample.norm", 4 * WIDTH)
    arrays |= dense(draw, "layers.0.downsample.reduction", 2 * WIDTH, 4 * WIDTH, bias=False)
    return arrays | norm(draw, "norm", 2 * WIDTH)


HUGGING_FACE = (
    ("cls_token", "embeddings.cls_token"),
    ("pos_embed", "embeddings.position_embeddings"),
    ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
    ("blocks.", "encoder.layer."),
    ("norm1", "layernorm_before"),
    ("norm2", "layernorm_after"),
    ("attn.proj", "attention.output.dense"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
)


def hugging_face(seed: int = 0) -> Arrays:
    """The Vision Transformer in the names of Hugging Face, with a classifier."""
    arrays: Arrays = {}
    for name, value in vit(seed).items():
        for theirs, ours in HUGGING_FACE:
            name = name.replace(theirs, ours)
        name = f"vit.{name}" if not name.startswith("norm.") else f"vit.layer{name}"
        if ".attn.qkv." not in name:
            arrays[name] = value
            continue
        for part, piece in zip(("query", "key", "value"), np.split(value, 3)):
            arrays[name.replace("attn.qkv", f"attention.attention.{part}")] = piece
    return arrays | dense(Draw(seed + 2), "classifier", 3, WIDTH)


NETWORKS = {"vit": vit, "mae": mae, "swin": swin, "hugging_face": hugging_face}


def prefixed(prefix: str, arrays: Arrays) -> Arrays:
    """The same behind a prefix."""
    return {prefix + name: value for name, value in arrays.items()}


def pixels(height: int = 4, width: int = 4) -> np.ndarray:
    """Two normalised images."""
    return np.random.default_rng(7).normal(size=(2, height, width, 3)).astype(np.float32)
