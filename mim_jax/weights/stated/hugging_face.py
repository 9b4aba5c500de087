"""What a `config.json` of Hugging Face's transformers states."""

from collections.abc import Collection

from mim_jax.weights.evidence import ratio
from mim_jax.weights.stated.names import is_rotary
from mim_jax.weights.stated.statements import Configuration, Reader, Statements

FILE = "config.json"

KEYS = {
    "num_attention_heads": "num_heads",
    "num_heads": "num_heads",
    "image_size": "image_size",
    "patch_size": "patch_size",
    "num_channels": "channels",
    "layer_norm_eps": "norm_epsilon",
    "window_size": "window",
    "pretrained_window_sizes": "pretrained_windows",
    "drop_path_rate": "drop_path_rate",
    "embed_dim": "width",
    "hidden_size": "width",
    "num_hidden_layers": "depth",
    "depths": "depths",
    "num_register_tokens": "registers",
    "layer_scale_init_value": "layer_scale",
    "layerscale_value": "layer_scale",
    "decoder_num_attention_heads": "decoder.num_heads",
    "norm_pix_loss": "normalise_target",
    "mask_ratio": "mask_ratio",
}
"""Their key to what it states; a Swin has `embed_dim` and `hidden_size`, of which only the first is its width."""

INSIDE = ("vision_config", "encoder", "backbone_config")
"""Where a model of several parts describes the one that sees."""

ROTARY = ("rope_theta", "rope_parameters", "rope_scaling")
"""Keys that only models with rotary positions have."""


def read_hugging_face(config: Configuration, family: str, settled: Collection[str] = ()) -> Statements:
    """What is stated but for the keys `settled`; raises InputError for what cannot be read or kept."""
    config = _of_encoder(config)
    reader = Reader(FILE, family, settled)
    _refuse_rotary(reader, config)
    swin = family == "swin_transformer"
    reader.take(config, {theirs: ours for theirs, ours in KEYS.items() if not (swin and theirs == "hidden_size")})
    if not any(reader.values.get("pretrained_windows", (1,))):
        reader.values["pretrained_windows"] = ()  # zeros, of which there may be more than stages
    if not config.get("use_swiglu_ffn"):
        reader.take_activation(config, "hidden_act")
    _sizes(reader, config)
    _positions(reader, config)
    _readout(reader, config)
    if swin and reader.values.get("norm_epsilon", 1e-5) != 1e-5:
        why = "beside which transformers' Swin has 1e-05 in some of its norms; norms of two kinds are not supported"
        reader.refuse("layer_norm_eps", config["layer_norm_eps"], why)
    return reader.statements


def _of_encoder(config: Configuration) -> Configuration:
    """The part of a configuration that is about the encoder."""
    parts = [config[name] for name in INSIDE if isinstance(config.get(name), dict)]
    alone = any(key in config for key in ("hidden_size", "embed_dim"))
    return parts[0] if parts and not alone else config


def _refuse_rotary(reader: Reader, config: Configuration) -> None:
    if "position" in reader.settled:
        return
    why = "an encoder with rotary positions, which are not supported"
    for key in ("model_type", "position_embedding_type"):
        if isinstance(name := config.get(key), str) and is_rotary(name):
            reader.refuse(key, name, why)
    for key in ROTARY:
        if config.get(key) is not None:
            reader.refuse(key, config[key], why)


def _sizes(reader: Reader, config: Configuration) -> None:
    """The hidden width of an MLP, and whether queries, keys and values have a bias."""
    width, gated = reader.values.get("width"), bool(config.get("use_swiglu_ffn"))
    hidden = config.get("intermediate_size")
    if type(hidden) is int and hidden > 0 and width and not gated:
        reader.put("mlp_ratio", ratio(hidden, width), "intermediate_size")
    if "embed_dim" in config:
        reader.take(config, {"mlp_ratio": "mlp_ratio"})
    if config.get("qkv_bias") is False:
        reader.put("qkv_bias", "none", "qkv_bias")


def _positions(reader: Reader, config: Configuration) -> None:
    """Swin's switch, and BEiT's three; with all of these off it has no positions at all."""
    if isinstance(config.get("use_absolute_embeddings"), bool) and reader.family == "swin_transformer":
        kind = "learned" if config["use_absolute_embeddings"] else "none"
        reader.put("position", kind, "use_absolute_embeddings")
    names = "use_absolute_position_embeddings", "use_relative_position_bias", "use_shared_relative_position_bias"
    if not any(name in config for name in names):
        return
    for name in names:
        if not isinstance(config.get(name, False), bool):
            reader.refuse(name, config[name], "which must be true or false")
    absolute, own, shared = (config.get(name, False) for name in names)
    kind = "shared" if shared else "per_block" if own else "none"
    reader.put("relative_position_bias", kind, names[2 if shared else 1])
    if not (absolute or own or shared):
        reader.put("position", "none", names[0])


def _readout(reader: Reader, config: Configuration) -> None:
    name, pooled = "use_mean_pooling", config.get("use_mean_pooling")
    if pooled is None:
        return
    if not isinstance(pooled, bool):
        reader.refuse(name, pooled, "which must be true or false")
    reader.put("readout", "mean_then_norm" if pooled else "class_token", name)
