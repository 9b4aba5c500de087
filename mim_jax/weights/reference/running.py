"""Models of Hugging Face's `transformers` in PyTorch, loaded and run block by block; both are imported when needed."""

import importlib
import inspect
import json
import re
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mim_jax.errors import InputError
from mim_jax.weights.files.checkpoint_file import HUGGING_FACE_FILES
from mim_jax.weights.files.safetensors_writing import write_safetensors
from mim_jax.weights.model import Model
from mim_jax.weights.reference.counterpart import Counterpart, counterpart

CONFIGURATION = "config.json"

UNUSED = r"(\w+\.)?pooler\.dense\..*|(.*\.)?mask_token"
"""Arrays that only one side may have, since nothing that is compared needs them."""

_FINAL_NORM = r"(\w+\.)?layernorm\.(weight|bias)"
_BLOCKS = r"(encoder\.)?layers?\.\d+\.blocks\.\d+", r"(encoder\.)?layers?\.\d+"  # of Swin, of all others


def library(name: str) -> Any:
    """A module that this project does not need otherwise; raises InputError if it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"verifying compares with PyTorch, and {name} is not installed here; pip install torch transformers"
        ) from error


def load_reference(path: Path, model: Model) -> tuple[Any, tuple[str, ...]]:
    """What a model is to be compared with, ready to run in float32, and notes on what that lacks.

    A folder of Hugging Face (or a file in one) is loaded by transformers itself, from the disk only; anything else is
    the model's own counterpart. Raises InputError if there is none.
    """
    library("torch")
    folder = path.parent if path.name in HUGGING_FACE_FILES else path
    if (folder / CONFIGURATION).is_file():
        return _load(_class_of(folder), folder), ()
    there, normed = counterpart(model), model.encoder_config.final_norm
    with tempfile.TemporaryDirectory() as scratch:
        _write(there, Path(scratch))
        kind = getattr(library("transformers"), there.name)
        reference = _load(kind, Path(scratch), UNUSED if normed else f"{UNUSED}|{_FINAL_NORM}", UNUSED)
    if not normed:
        reference.base_model.layernorm = library("torch").nn.Identity()
    left_out = model.objective is not None and not there.whole
    return reference, ("what stands behind the encoder has no reference",) if left_out else ()


def _class_of(folder: Path) -> Any:
    """The class that a config.json names."""
    transformers = library("transformers")
    names = json.loads((folder / CONFIGURATION).read_text(encoding="utf-8")).get("architectures") or ["AutoModel"]
    found = getattr(transformers, str(names[0]), None)
    if not hasattr(found, "from_pretrained"):
        raise InputError(f"{folder} is of class {names[0]}, which transformers {transformers.__version__} has not")
    return found


def _write(there: Counterpart, folder: Path) -> None:
    """A folder of Hugging Face, so that transformers deals with the names of its older versions."""
    getattr(library("transformers"), there.configuration)(**there.fields).save_pretrained(folder)
    arrays = {name: (array.dtype, array.shape, array) for name, array in there.arrays.items()}
    write_safetensors(folder / HUGGING_FACE_FILES[0], arrays, {"format": "pt"})


def _load(kind: Any, folder: Path, missing: str = UNUSED, beyond: str = ".*") -> Any:
    """A model; raises InputError if the folder lacks some of its weights, or has others, but for what is named."""
    options = {"local_files_only": True, "attn_implementation": "eager", "ignore_mismatched_sizes": True}
    try:
        with _quiet():
            reference, found = kind.from_pretrained(folder, output_loading_info=True, **options)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{kind.__name__} of transformers does not load {folder}: {reason}") from error
    wrong = [name for name in sorted(found["missing_keys"]) if not re.fullmatch(missing, name)]
    wrong += [name for name in sorted(found["unexpected_keys"]) if not re.fullmatch(beyond, name)]
    wrong += [str(key if isinstance(key, str) else key[0]) for key in found["mismatched_keys"]]
    if wrong:
        raise InputError(f"{kind.__name__} is the nearest that transformers has, but does not fit: see its {wrong[0]}")
    _mask_once(reference)
    return reference.float().eval()


def _mask_once(reference: Any) -> None:
    """Halves the mask of shifted windows where Swin V2 adds it twice, as transformers 5.24 does."""
    for module in reference.modules():
        if type(module).__name__ == "Swinv2SelfAttention":
            source = inspect.getsource(type(module).forward)
            if len(re.findall(r"\+ attention_mask\b", source)) > 1:
                module.register_forward_pre_hook(_with_half_the_mask, with_kwargs=True)


def _with_half_the_mask(module: Any, arguments: tuple, options: dict) -> tuple[tuple, dict]:
    bound = inspect.signature(module.forward).bind(*arguments, **options)
    if bound.arguments.get("attention_mask") is not None:
        bound.arguments["attention_mask"] = bound.arguments["attention_mask"] / 2
    return bound.args, bound.kwargs


@contextmanager
def _quiet() -> Generator[None]:
    """No reports and no progress bars of transformers."""
    logging = library("transformers").utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def masking(reference: Any) -> str:
    """What masks its input: MAE's "noise", a "mask" of patches, or ""."""
    if hasattr(reference.config, "mask_ratio"):
        return "noise"
    takes = "bool_masked_pos" in inspect.signature(reference.forward).parameters
    return "mask" if takes and getattr(reference.base_model.embeddings, "mask_token", None) is not None else ""


def run(reference: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a model computes from `image` `[b, h, w, c]` and perhaps `noise` or `mask` `[b, n]`, by our names."""
    torch, seen = library("torch"), {}
    for what, module in _modules(reference).items():
        module.register_forward_hook(
            lambda module, arguments, out, what=what: seen.update({what: out if torch.is_tensor(out) else out[0]})
        )
    given = {"pixel_values": torch.from_numpy(np.ascontiguousarray(np.moveaxis(inputs["image"], -1, 1)))}
    if "noise" in inputs:
        given["noise"] = torch.from_numpy(inputs["noise"])
    if "mask" in inputs:
        given["bool_masked_pos"] = torch.from_numpy(inputs["mask"]).bool()
    with torch.no_grad():
        out = reference(**given)
    if getattr(out, "reconstruction", None) is not None:
        seen["reconstruction"] = out.reconstruction.movedim(1, -1)
    if getattr(out, "logits", None) is not None:
        seen["reconstruction" if "noise" in inputs else "logits"] = out.logits
    return {what: tensor.numpy() for what, tensor in seen.items()}


def _modules(reference: Any) -> dict[str, Any]:
    """Modules whose outputs are compared, by our names."""
    encoder = reference.base_model
    there = dict(encoder.named_modules())
    names = next(filter(None, ([name for name in there if re.fullmatch(form, name)] for form in _BLOCKS)))
    blocks = {_our_name(name): there[name] for name in names}
    last = reference.layernorm if hasattr(reference, "layernorm") else encoder.layernorm
    return {"embedded patches": encoder.embeddings} | blocks | {"tokens": last}


def _our_name(name: str) -> str:
    *stage, block = re.findall(r"\d+", name)
    return "/".join(["encoder", *(f"stage{number}" for number in stage), "blocks", block])
