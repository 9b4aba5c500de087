"""Small whole networks changed in a few places as a seed says, with what a user and configurations state of them.

A change may be harmless (a prefix), or make the file impossible; what it may never do is end in anything but a model
that can be used, or one sentence.
"""

import functools
import json
import random
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from mim_jax.errors import InputError
from mim_jax.weights import importing
from mim_jax.weights.files.safetensors_writing import write_safetensors
from mim_jax.weights.loading import load
from mim_jax.weights.model import Model
from mim_jax.weights.options import parse_statements
from tests import golden_cases as golden
from tests.weights import small
from tests.weights.small import Arrays
from tests.weights.test_import_parity import statements as golden_statements
from tests.weights.writing import write_arrays

LONGEST = 600  # characters of a sentence

Change = Callable[[Arrays, random.Random], Arrays]


def reshaped(arrays: Arrays, draw: random.Random) -> Arrays:
    """One array with another number of axes, or without numbers."""
    name = draw.choice(list(arrays))
    value = arrays[name]
    changes = (
        value.ravel(), value[..., None], value[None], value[:0], np.zeros(0, value.dtype), value.T,
        value.reshape(-1)[0], np.squeeze(value), value[None, None, None], value.reshape(1, -1), value.reshape(-1, 1),
    )  # fmt: skip
    return arrays | {name: np.asarray(draw.choice(changes))}


def resized(arrays: Arrays, draw: random.Random) -> Arrays:
    """One array, or all of one kind, with another size along an axis."""
    name = draw.choice(list(arrays))
    like = (
        [other for other in arrays if other.split(".")[-2:] == name.split(".")[-2:]] if draw.random() < 0.3 else [name]
    )
    changed = dict(arrays)
    for each in like:
        if not changed[each].ndim:
            continue
        axis = draw.randrange(changed[each].ndim)
        count = draw.choice((0, 1, 2, 3, 5, 8, 13, changed[each].shape[axis] + 1, 2 * changed[each].shape[axis]))
        changed[each] = np.resize(changed[each], (*changed[each].shape[:axis], count, *changed[each].shape[axis + 1 :]))
    return changed


def other_numbers(arrays: Arrays, draw: random.Random) -> Arrays:
    """One array of another type, or with numbers that weights do not have."""
    name = draw.choice(list(arrays))
    value = arrays[name]
    odd = np.full(value.shape, draw.choice((np.nan, np.inf, 0.0, 1e30)), np.float32)
    kinds = ("float64", "float16", "int64", "int32", "uint8", "bool", "complex64")
    return arrays | {name: odd if draw.random() < 0.3 else value.astype(draw.choice(kinds))}


NUMBERS = ("0", "1", "7", "01", "999", "123456789", "99999999999999999999", "-1", "x")
PREFIXES = (
    "module.", "encoder.", "backbone.", "vit.", "net.visual.trunk.", "_orig_mod.", "student.",
    "teacher.backbone.", "ema.", "model.", "a b.", "..", "0.", "decoder.",
)  # fmt: skip
SELECTS = ("teacher", "student/backbone", "encoder", "nobody", "/", "module", "backbone", "state_dict")
WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "module", "inner", "0")


def renamed(arrays: Arrays, draw: random.Random) -> Arrays:
    """One name left out, misspelt, with another number, behind a prefix, or twice."""
    name = draw.choice(list(arrays))
    parts = name.split(".")
    at = draw.randrange(len(parts))
    others = (
        ".".join([*parts[:at], draw.choice(NUMBERS), *parts[at + 1 :]]),
        ".".join([*parts[:at], draw.choice(WRAPPERS), *parts[at:]]),
        ".".join([*parts[:at], *parts[at + 1 :]]),
        draw.choice(PREFIXES) + name,
        name.upper(),
        "",
    )
    other = draw.choice(others)
    keep = draw.random() < 0.2
    changed = {key: value for key, value in arrays.items() if keep or key != name}
    return changed | ({other: arrays[name]} if other or draw.random() < 0.1 else {})


def wrapped(arrays: Arrays, draw: random.Random) -> Arrays:
    """All names behind a prefix, or with a part put in."""
    if draw.random() < 0.6:
        return small.prefixed("".join(draw.sample(PREFIXES, draw.choice((1, 1, 2)))), arrays)
    at, part = draw.randrange(3), draw.choice(WRAPPERS)
    return {".".join([*name.split(".")[:at], part, *name.split(".")[at:]]): value for name, value in arrays.items()}


def doubled(arrays: Arrays, draw: random.Random) -> Arrays:
    """Two networks behind two prefixes."""
    first, second = draw.sample((*PREFIXES, ""), 2)
    return small.prefixed(first, arrays) | small.prefixed(second, arrays)


def more(arrays: Arrays, draw: random.Random) -> Arrays:
    """One array that is not known, or a counter."""
    names = (
        "n_averaged",
        "step",
        "head.weight",
        "fc_norm.weight",
        "rope.freqs",
        "queue",
        "blocks.0.attn.relative_position_index",
    )
    return arrays | {draw.choice(names): np.zeros(draw.choice(((), (1,), (8,), (3, 8), (2, 2, 2))), np.float32)}


def dropped(arrays: Arrays, draw: random.Random) -> Arrays:
    """All names with a word left out."""
    word = draw.choice(("blocks", "norm", "pos_embed", "cls_token", "patch_embed", "bias", "mlp", "decoder", "attn"))
    return {name: value for name, value in arrays.items() if word not in name} or arrays


CHANGES: tuple[Change, ...] = (reshaped, resized, other_numbers, renamed, wrapped, doubled, more, dropped)

KEYS = (
    "image_size", "patch_size", "channels", "width", "depth", "depths", "num_heads", "mlp_ratio", "mlp",
    "class_token", "distillation_token", "registers", "mask_token", "position", "position_prefix",
    "relative_position_bias", "qkv_bias", "query_key_norm", "layer_scale", "final_norm", "norm_epsilon",
    "drop_path_rate", "kernel_init", "embedding_init", "rescale_by_depth", "version", "window", "windows",
    "pretrained_windows", "pad_windows", "shift_stages", "norm_every", "branch_norm_scale", "readout", "mean",
    "std", "mask_ratio", "mask_patch", "normalise_target", "decoder.num_heads", "decoder.norm_epsilon",
    "no_such_key",
)  # fmt: skip
TEXTS = (
    "0", "1", "2", "4", "-1", "3", "8", "1000000000", "9" * 40, "1e400", "nan", "-inf", "0.5", "1e-12", "2.0",
    "x", "gelu", "none", "all", "learned", "sincos", "mean", "true", "false", "4,4", "8,8", "2,2", "1,1", "0,0",
    "2,", ",", "()", "1,2,3", "0.5,0.5,0.5", "0.5,0.5", "-1,-1", "nan,nan,nan", "a,b", "4,x", "é", "x" * 200,
    "[1,[2]]", "4,4,4,4", "16,2",
)  # fmt: skip
VALUES = (
    0, 1, 2, 4, -1, 7, 10**9, 10**30, 0.5, 1e-12, -0.5, float("nan"), float("inf"), "", "x", "gelu",
    "quick_gelu", "4", True, False, None, [], [2, 2], [4, 4], [0, 0], [1, 2, 3], [0.5, 0.5, 0.5], [0, 0, 0],
    [float("nan")] * 3, ["a", "b", "c"], [[1]], {}, {"height": 4, "width": 4}, {"a": [1]}, [None], "x" * 300,
    ["é"],
)  # fmt: skip
CONFIG_KEYS = (
    "num_attention_heads", "num_heads", "image_size", "patch_size", "num_channels", "layer_norm_eps",
    "window_size", "pretrained_window_sizes", "drop_path_rate", "decoder_num_attention_heads", "norm_pix_loss",
    "mask_ratio", "hidden_act", "hidden_size", "qkv_bias", "model_type", "architectures", "architecture",
    "model_args", "pretrained_cfg", "num_labels", "id2label", "num_hidden_layers", "depths", "pooling_type",
    "global_pool", "num_classes",
)  # fmt: skip
PREPROCESSOR_KEYS = (
    "image_mean", "image_std", "do_normalize", "do_rescale", "rescale_factor", "size", "crop_size",
    "image_processor_type",
)  # fmt: skip


def statements(name: str, draw: random.Random) -> list[str]:
    """What a user writes behind `--set`."""
    stated = dict(own_statements(name))
    for _ in range(draw.choice((0, 0, 0, 1, 1, 2))):
        stated[draw.choice(KEYS)] = draw.choice(TEXTS)
    if draw.random() < 0.05 and stated:
        stated.pop(draw.choice(list(stated)))
    return [f"{key}={value}" for key, value in stated.items()]


def configuration(keys: tuple[str, ...], sound: dict[str, object], draw: random.Random) -> dict[str, object]:
    """A configuration beside the weights, with a few values exchanged."""
    changed = dict(sound)
    for _ in range(draw.choice((0, 1, 1, 2))):
        value = draw.choice(VALUES)
        changed[draw.choice(keys)] = (
            {draw.choice(("mean", "std", "input_size")): value} if draw.random() < 0.1 else value
        )
    return changed


CONFIG = {
    "model_type": "vit",
    "num_attention_heads": small.HEADS,
    "image_size": 4,
    "patch_size": 2,
    "hidden_act": "gelu",
}
PREPROCESSOR = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_normalize": True}


NETWORKS = (
    *small.NETWORKS, "timm_vit_avg", "timm_deit_distilled", "timm_beit_shared_abs", "simmim_vit_finetune",
    "swinv2_classifier", "timm_swin", "dinov2_original_reg4_swiglu", "timm_dinov2", "simmim_swinv2_pretrain",
    "hf_beit", "hf_swinv2", "hf_dinov2", "hf_vitmae", "mocov3_checkpoint",
)  # fmt: skip


@functools.cache
def network(name: str) -> Arrays:
    """A small network, made or out of a golden case."""
    if name in small.NETWORKS:
        return small.NETWORKS[name]()
    found = golden.checkpoint(name)
    return {key: value for key, value in found.get("state_dict", found).items() if isinstance(value, np.ndarray)}


TOLD = {
    "num_attention_heads": "num_heads",
    "decoder_num_attention_heads": "decoder.num_heads",
    "window_size": "window",
}
"""What a config.json tells, which has to be stated without it."""


@functools.cache
def own_config(name: str) -> dict[str, object]:
    """The config.json that lies beside a network of Hugging Face."""
    path = golden.FOLDER / name / "config.json"
    return json.loads(path.read_text()) if path.exists() else CONFIG if name == "hugging_face" else {}


@functools.cache
def own_statements(name: str) -> dict[str, str]:
    """What has to be stated of a network."""
    stated = small.STATED[name] if name in small.NETWORKS else golden_statements(name)
    config = own_config(name)
    stated = {ours: config[theirs] for theirs, ours in TOLD.items() if theirs in config} | stated
    return {key: str(value).strip("()[]").replace(" ", "") for key, value in stated.items()}


def write(seed: int, folder: Path) -> tuple[Path, list[str], str]:
    """A file or folder of a changed network, the `--set` pairs that go with it, and what is selected."""
    draw = random.Random(seed)
    name = draw.choice(NETWORKS)
    arrays = network(name)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
        arrays = draw.choice(CHANGES)(arrays, draw)
    select = draw.choice(SELECTS) if draw.random() < 0.15 else ""
    kind = draw.choice(("npz", "torch", "torch", "folder"))
    if kind == "npz":
        path = folder / "model.npz"
        np.savez(path, **{key.replace("/", ""): value for key, value in arrays.items() if key} or {"x": np.zeros(1)})
    elif kind == "torch":
        wrap = draw.choice(("", "model", "state_dict", "teacher"))
        path = write_arrays(folder / "model.pth", {wrap: arrays, "args": {}} if wrap else arrays)
    else:
        path = folder / "model"
        path.mkdir(exist_ok=True)
        entries = {key: (value.dtype, value.shape, lambda value=value: value) for key, value in arrays.items()}
        entries = {key: entry for key, entry in entries.items() if entry[0].kind != "c"}
        write_safetensors(path / "model.safetensors", entries, {})
        config = configuration(CONFIG_KEYS, own_config(name), draw)
        (path / "config.json").write_text(json.dumps(config))
        preprocessor = configuration(PREPROCESSOR_KEYS, PREPROCESSOR, draw)
        (path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return path, statements(name, draw), select


def ends(seed: int, folder: Path) -> str:
    """Loads what a seed makes: "read" for a model that can be used, "refused"; anything else is raised."""
    path, pairs, select = write(seed, folder)
    try:
        model = load(path, select=select, stated=parse_statements(pairs))
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < LONGEST, str(error)
        return "refused"
    check(model)
    return "read"


def check(model: Model) -> None:
    """Raises AssertionError for a model whose parameters do not fit its encoder, or are not as they must be."""
    encoded = encoded_shape(model.encoder_config)
    assert encoded == (1, model.encoder.config.prefix + np.prod(encoded_grid(model)), model.encoder_config.output_width)
    assert len(model.preprocessing.mean) == len(model.preprocessing.std) == model.encoder_config.channels
    wanted = importing.parameter_shapes(model.encoder_config, model.objective)
    same = jax.tree.map(
        lambda leaf, shape: leaf.shape == shape.shape and np.isfinite(leaf).all(), model.parameters, wanted
    )
    assert all(jax.tree.leaves(same))


def encoded_grid(model: Model) -> tuple[int, int]:
    config = model.encoder_config
    return config.stage_grids[-1] if hasattr(config, "stage_grids") else config.grid


@functools.cache
def encoded_shape(config) -> tuple[int, ...]:
    """Shape of the tokens of an image, without computing any."""
    from mim_jax.models.build import initial_parameters, make_encoder

    def encode(key, images):
        return make_encoder(config).apply({"params": initial_parameters(config, key)}, images).tokens

    images = jax.ShapeDtypeStruct((1, *config.image_size, config.channels), np.float32)
    return jax.eval_shape(encode, jax.random.key(0), images).shape
