"""Loaded encoders for another image size, another window or biases per block, as the originals' loaders make them.

Nothing here needs JAX until it is called with a configuration.
"""

import dataclasses
from typing import Any

import numpy as np

from mim_jax.errors import InputError
from mim_jax.ops.bias_tables import RESIZINGS, resize_bias_table
from mim_jax.ops.positions import RESAMPLINGS, position_table, resize_position_table

Pair = tuple[int, int]
Path = tuple[str, ...]
Parameters = dict[str, Any]

RECOMPUTED = "recomputed"
POSITIONS = (*RESAMPLINGS, RECOMPUTED)
"""What can become of absolute positions: a way of resizing, or, for fixed ones, their values on the new grid."""

POSITION_TABLE = ("pos_embed", "table")
BIAS = "relative_position_bias"
OPTIONAL = {"mask_token": "mask_token", "final_norm": "norm"}
"""Field of a configuration to the parameters that are there only if it is True."""


@dataclasses.dataclass(frozen=True)
class Adapted:
    """An encoder that was changed.

    Attributes:
        config: its configuration.
        parameters: its parameters, nested dicts of numpy arrays.
        notes: what was done, a sentence each.
    """

    config: Any
    parameters: Parameters
    notes: tuple[str, ...] = ()


def adapt(
    config: Any,
    parameters: Parameters,
    *,
    image_size: Pair | None = None,
    window: int | Pair | None = None,
    relative_position_bias: str | None = None,
    pretrained_windows: tuple[int, ...] | None = None,
    positions: str = "bicubic",
    tables: str = "geometric",
) -> Adapted:
    """The encoder for another image size, window or sharing of biases; None leaves a thing as it is.

    Absolute positions go to the new grid (their prefix rows stay), tables of relative position biases to the new grid
    of a Vision Transformer or to the windows that the stages of a Swin really have. A "shared" bias becomes
    "per_block" by copying. In Swin version 2 nothing is interpolated: its offsets go on to relate to the windows that
    it had.

    Args:
        config: a `VisionTransformerConfig` or a `SwinConfig`.
        parameters: the encoder's, in per-block form, numpy arrays.
        image_size: height and width in pixels.
        window: Swin's rows and columns of tokens of a window, in all stages.
        relative_position_bias: "per_block" for an encoder that shares its bias.
        pretrained_windows: of Swin version 2, a side for every stage, or () for the windows that it will have;
            None for those that it was trained with.
        positions: how absolute positions are resized, a name of `POSITIONS`. MAE's loader interpolates fixed ones
            too; "recomputed" makes these anew.
        tables: how tables of relative position biases are resized, a name of `RESIZINGS`.

    Raises InputError if the image size, the window or a name does not fit.
    """
    _check_name("positions", positions, POSITIONS)
    _check_name("tables", tables, tuple(RESIZINGS))
    try:
        shared = _share(Adapted(config, parameters), relative_position_bias)
        target = _target(shared.config, image_size or config.image_size, window, pretrained_windows)
        return _resize(shared, target, positions, tables)
    except ValueError as error:
        raise InputError(str(error)) from error


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """What the loader of an original keeps of a pre-trained encoder for fine-tuning.

    Attributes:
        swin: whether it is a Swin, or a Vision Transformer.
        final_norm: whether the final norm is kept.
        readout: how its classifier reads the encoder, a name of `models.classifier.READOUTS`; "" for dense tasks.
    """

    swin: bool
    final_norm: bool
    readout: str


FINE_TUNINGS = {
    "mae": FineTuning(swin=False, final_norm=False, readout="mean_then_norm"),
    "mae_class_token": FineTuning(swin=False, final_norm=True, readout="class_token"),
    "simmim_vit": FineTuning(swin=False, final_norm=False, readout="mean_then_norm"),
    "swin": FineTuning(swin=True, final_norm=True, readout="mean"),
    "swin_dense": FineTuning(swin=True, final_norm=False, readout=""),
}
"""Name of a method to what its loader does; LUT's is that of MAE.

The norm behind the mean (`fc_norm`) starts fresh, and so do the norms behind the stages of a dense Swin.
"""


def for_fine_tuning(config: Any, parameters: Parameters, method: str) -> Adapted:
    """The encoder as the original of `method`, a name of `FINE_TUNINGS`, begins fine-tuning with it.

    The mask token goes, a shared relative position bias becomes one per block, fixed absolute positions train from
    then on. Raises InputError if the method is not known or is one of the other family.
    """
    _check_name("method", method, tuple(FINE_TUNINGS))
    recipe = FINE_TUNINGS[method]
    if recipe.swin != _is_swin(config):
        raise InputError(
            f"'{method}' is for a {'Swin' if recipe.swin else 'Vision'} Transformer; choose another method"
        )
    shared = _share(Adapted(config, parameters), "per_block" if getattr(config, BIAS, "") == "shared" else None)
    kept = {"mask_token": False, "final_norm": config.final_norm and recipe.final_norm}
    dropped = [OPTIONAL[field] for field, keep in kept.items() if getattr(config, field) and not keep]
    trained = {"position": "learned"} if config.position.startswith("sincos") else {}
    notes = [f"{name} was dropped" for name in dropped] + ["absolute positions are trained from now on"] * len(trained)
    left = {name: value for name, value in shared.parameters.items() if name not in dropped}
    return Adapted(dataclasses.replace(shared.config, **kept, **trained), left, (*shared.notes, *notes))


def _check_name(setting: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise InputError(f"{setting} must be one of {', '.join(known)}, not '{name}'")


def _is_swin(config: Any) -> bool:
    return hasattr(config, "stage_windows")


def _share(encoder: Adapted, wanted: str | None) -> Adapted:
    """The encoder with a table in every block if that is wanted of a shared one."""
    config, have = encoder.config, getattr(encoder.config, BIAS, "per_block")
    if wanted is None or wanted == have:
        return encoder
    if (have, wanted) != ("shared", "per_block"):
        raise InputError(f"{BIAS} is '{have}' and cannot become '{wanted}'; only 'shared' can become 'per_block'")
    table, parameters = _get(encoder.parameters, (BIAS, "table")), dict(encoder.parameters)
    del parameters[BIAS]
    for layer in range(config.depth):
        parameters = _put(parameters, _block_table("blocks", layer), table.copy())
    note = f"the shared relative position bias was copied to all {config.depth} blocks"
    return Adapted(dataclasses.replace(config, **{BIAS: wanted}), parameters, (*encoder.notes, note))


def _target(config: Any, image_size: Pair, window: int | Pair | None, pretrained: tuple[int, ...] | None) -> Any:
    """The configuration that is wanted."""
    if min(image_size) < 1:
        raise InputError(f"an image of {image_size[0]}x{image_size[1]} has no pixels; choose another image size")
    if not _is_swin(config):
        if window is not None or pretrained is not None:
            raise InputError("a Vision Transformer has no windows; leave out window and pretrained_windows")
        return dataclasses.replace(config, image_size=image_size)
    sides = {} if window is None else {"window": window, "windows": ()}
    target = dataclasses.replace(config, image_size=image_size, **sides)
    pretrained = _pretrained_windows(config, target) if pretrained is None else pretrained
    return dataclasses.replace(target, pretrained_windows=pretrained)


def _pretrained_windows(config: Any, target: Any) -> tuple[int, ...]:
    """The windows that version 2 was trained with, if it will have others."""
    if config.version == 1 or config.stage_windows == target.stage_windows:
        return config.pretrained_windows
    recorded = config.pretrained_windows or (0,) * len(config.depths)
    for side, window in zip(recorded, config.stage_windows):
        if not side and window[0] != window[1]:
            raise InputError(
                f"windows of {window[0]}x{window[1]} tokens are not square, so they cannot be recorded as those of "
                "pre-training; give pretrained_windows"
            )
    return tuple(side or window[0] for side, window in zip(recorded, config.stage_windows))


def _resize(encoder: Adapted, target: Any, positions: str, tables: str) -> Adapted:
    """The encoder with the configuration `target`, which has the same parameters in other shapes."""
    config, parameters, notes = encoder.config, encoder.parameters, list(encoder.notes)
    if config.position != "none" and config.grid != target.grid:
        table = _new_positions(config, target, _get(parameters, POSITION_TABLE), positions)
        parameters = _put(parameters, POSITION_TABLE, table)
        notes.append(f"absolute positions went from {_sizes(config.grid, target.grid)} patches ({positions})")
    windows, extra_rows = _table_windows(target), _extra_rows(config)
    changed = {path: (old, windows[path]) for path, old in _table_windows(config).items() if old != windows[path]}
    for path, pair in changed.items():
        parameters = _put(parameters, path, resize_bias_table(_get(parameters, path), *pair, tables, extra_rows))
    for pair in dict.fromkeys(changed.values()):
        notes.append(f"relative position biases went from {_sizes(*pair)} tokens ({tables})")
    if _is_swin(config) and config.pretrained_windows != target.pretrained_windows:
        reference = ", ".join(map(str, target.pretrained_windows)) or "that it has now"
        notes.append(f"the offsets of its relative position bias relate to windows of {reference}")
    return Adapted(target, parameters, tuple(notes))


def _new_positions(config: Any, target: Any, table: np.ndarray, positions: str) -> np.ndarray:
    prefix = getattr(config, "position_prefix", 0)
    if positions != RECOMPUTED:
        return resize_position_table(table, config.grid, target.grid, prefix, positions)
    if config.position == "learned":
        raise InputError(f"learned positions cannot be recomputed; choose {' or '.join(map(repr, RESAMPLINGS))}")
    return position_table(config.position, target.grid, config.width, prefix).astype(table.dtype)


def _sizes(source: Pair, target: Pair) -> str:
    return f"{source[0]}x{source[1]} to {target[0]}x{target[1]}"


def _table_windows(config: Any) -> dict[Path, Pair]:
    """Where the tables of relative position biases lie, and the rows and columns of tokens that each is for."""
    if not _is_swin(config):
        paths = {
            "none": (),
            "shared": [(BIAS, "table")],
            "per_block": [_block_table("blocks", layer) for layer in range(config.depth)],
        }
        return {path: config.grid for path in paths[getattr(config, BIAS)]}
    return {
        _block_table(f"stage{stage}", "blocks", layer): window
        for stage, (depth, window) in enumerate(zip(config.depths, config.stage_windows))
        for layer in range(depth if config.version == 1 else 0)
    }


def _block_table(*block: str | int) -> Path:
    return (*map(str, block), "attn", BIAS, "table")


def _extra_rows(config: Any) -> int:
    """Rows of a table that belong to a class token."""
    from mim_jax.ops.relative_positions import CLASS_ROWS  # needs JAX, as the configuration has already

    return CLASS_ROWS * getattr(config, "class_token", False)


def _get(tree: Parameters, path: Path) -> np.ndarray:
    node: Any = tree
    for name in path:
        if not isinstance(node, dict) or name not in node:
            raise InputError(f"there is no parameter {'/'.join(path)}; give an encoder's parameters, block by block")
        node = node[name]
    return node


def _put(tree: Parameters, path: Path, value: np.ndarray) -> Parameters:
    """The tree with another leaf; the tree that is given stays as it is."""
    name, *rest = path
    return tree | {name: _put(tree.get(name, {}), tuple(rest), value) if rest else value}
