"""A Swin Transformer with padded windows in float64, written without windows: every token looks at every other one."""

import numpy as np
from scipy.special import erf


def network(tree, config, image):
    """Final tokens `[y, x, d]` of one image `[h, w, c]`."""
    x = layer_norm(embed(tree["patch_embed"], image, config.patch_size), tree["patch_norm"])
    for stage, depth in enumerate(config.depths):
        layers = tree[f"stage{stage}"]
        for layer in range(depth):
            shift = config.stage_shifts[stage] if layer % 2 else (0, 0)
            x = block(x, layers["blocks"][str(layer)], config.stage_windows[stage], shift)
        if "merging" in layers:
            x = merge(x, layers["merging"])
    return layer_norm(x, tree["norm"])


def embed(parameters, image, patch):
    rows, columns = image.shape[0] // patch[0], image.shape[1] // patch[1]
    kernel = parameters["kernel"]
    out = np.empty((rows, columns, kernel.shape[-1]))
    for y in range(rows):
        for x in range(columns):
            part = image[y * patch[0] : (y + 1) * patch[0], x * patch[1] : (x + 1) * patch[1]]
            out[y, x] = np.tensordot(part, kernel, 3) + parameters["bias"]
    return out


def merge(x, parameters):
    """Four sub-lattices; the norm's size tells which version this is."""
    rows, columns, width = x.shape
    padded = np.zeros((rows + rows % 2, columns + columns % 2, width))
    padded[:rows, :columns] = x
    x = np.concatenate([padded[p::2, q::2] for p, q in [(0, 0), (1, 0), (0, 1), (1, 1)]], axis=-1)
    kernel, norm = parameters["reduction"]["kernel"], parameters["norm"]
    return layer_norm(x, norm) @ kernel if norm["scale"].size == 4 * width else layer_norm(x @ kernel, norm)


def block(x, parameters, window, shift):
    """Version 2 is known by its scale of cosines."""

    def branch(x, norm, layer):
        after = "logit_scale" in parameters["attn"]
        return layer_norm(layer(x), norm) if after else layer(layer_norm(x, norm))

    x = x + branch(x, parameters["norm1"], lambda x: attention(x, parameters["attn"], window, shift))
    return x + branch(x, parameters["norm2"], lambda x: mlp(x, parameters["mlp"]))


def layer_norm(x, parameters, epsilon=1e-5):
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + epsilon)
    return centred / deviation * parameters["scale"] + parameters["bias"]


def mlp(x, parameters):
    hidden = x @ parameters["fc1"]["kernel"] + parameters["fc1"]["bias"]
    hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    return hidden @ parameters["fc2"]["kernel"] + parameters["fc2"]["bias"]


def attention(x, parameters, window, shift):
    """Attention of all padded tokens, with minus infinity between different windows."""
    rows, columns, width = x.shape
    full = tuple(-(-size // side) * side for size, side in zip((rows, columns), window))
    padded = np.zeros((*full, width))
    padded[:rows, :columns] = x
    qkv = np.einsum("nd,dske->sken", padded.reshape(-1, width), parameters["qkv"]["kernel"])
    query, key, value = (qkv + biases(parameters)[..., None]).swapaxes(-1, -2)
    if "logit_scale" in parameters:
        query, key = (part / np.maximum(np.linalg.norm(part, axis=-1, keepdims=True), 1e-12) for part in (query, key))
        scale = np.exp(np.minimum(parameters["logit_scale"], np.log(100)))[:, None, None]
    else:
        scale = query.shape[-1] ** -0.5
    logits = query @ key.swapaxes(-1, -2) * scale + window_bias(parameters, full, window, shift)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights = weights / weights.sum(axis=-1, keepdims=True)
    out = np.einsum("knm,kme,ked->nd", weights, value, parameters["proj"]["kernel"], optimize=True)
    return (out + parameters["proj"]["bias"]).reshape(*full, width)[:rows, :columns]


def biases(parameters):
    if "q_bias" not in parameters:
        return parameters["qkv"]["bias"]
    query, value = parameters["q_bias"], parameters["v_bias"]
    return np.stack([query, np.zeros_like(query), value])


def window_bias(parameters, full, window, shift):
    """What comes from positions: the bias of the offset, -100 between regions, minus infinity between windows."""
    place = (places(full) - shift) % full  # after the shift
    box, inside = place // window, place % window
    bands = (place >= np.subtract(full, window)).astype(int) + (place >= np.subtract(full, shift))
    offset = inside[:, None] - inside[None] + np.subtract(window, 1)
    bias = np.moveaxis(bias_table(parameters, window)[offset[..., 0], offset[..., 1]], -1, 0)
    bias = bias - 100.0 * (bands[:, None] != bands[None]).any(axis=-1)
    return np.where((box[:, None] == box[None]).all(axis=-1), bias, -np.inf)


def places(grid):
    return np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), axis=-1).reshape(-1, 2)


def bias_table(parameters, window):
    """Bias of every offset within a window, from the most negative one on, `[2 y - 1, 2 x - 1, k]`."""
    shape = (2 * window[0] - 1, 2 * window[1] - 1, -1)
    if "relative_position_bias" in parameters:
        return parameters["relative_position_bias"]["table"].reshape(shape)
    layers, furthest = parameters["position_mlp"], np.subtract(window, 1)
    offset = 8 * (places(shape[:2]) - furthest) / furthest
    offset = np.sign(offset) * np.log2(np.abs(offset) + 1) / np.log2(8)
    hidden = np.maximum(offset @ layers["fc1"]["kernel"] + layers["fc1"]["bias"], 0)
    return (16 / (1 + np.exp(-hidden @ layers["fc2"]["kernel"]))).reshape(shape)
