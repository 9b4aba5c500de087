"""Converts checkpoints of other codes into model directories, and back.

python convert_torch_weights.py mae_pretrain_vit_base.pth models/mae_b16
python convert_torch_weights.py checkpoint.pth models/vit --select teacher --set num_heads=12
python convert_torch_weights.py models/mae_b16 mae.safetensors --to torch
python convert_torch_weights.py mae_pretrain_vit_base.pth --inspect
python convert_torch_weights.py --list dinov2
"""

from mim_jax.command_line import NOTHING_WRITTEN, interruptible, leave_on_interrupt, run_command

if __name__ == "__main__":
    leave_on_interrupt()  # before anything else is imported

import argparse
import gc
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mim_jax.errors import InputError
from mim_jax.paths import local_path


def make_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="convert_torch_weights.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", nargs="?", help="file or folder (.pth, .bin, .safetensors, .npz, Hugging Face)")
    parser.add_argument("output", nargs="?", help="model directory to write, or a file with --to torch")
    parser.add_argument("--list", nargs="?", const="", metavar="WORD", help="print known public checkpoints")
    parser.add_argument("--inspect", action="store_true", help="print what is in the file, without converting it")
    parser.add_argument(
        "--verify", action="store_true", help="compare with transformers (needs torch) after converting"
    )
    parser.add_argument("--to", choices=["torch"], help="write a file of another code from a model directory")
    parser.add_argument("--layout", default="", help="name of the layout, read or written")
    parser.add_argument("--select", default="", help="which network of the file, such as student or momentum_encoder")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="state what weights cannot tell"
    )
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16, float16, float64, or keep")
    parser.add_argument("--lenient", action="store_true", help="leave out arrays that the layout does not know")
    parser.add_argument("--allow_nonfinite", action="store_true", help="take NaN and infinity")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it is there")
    change = parser.add_argument_group("for another size, as the originals fine-tune")
    change.add_argument("--image_size", metavar="H,W", help="image size in pixels")
    change.add_argument("--window", type=int, help="window of a Swin")
    change.add_argument("--relative_position_bias", choices=["per_block"], help="copy a shared bias to every block")
    change.add_argument("--positions", help="how absolute positions are resized (bicubic)")
    change.add_argument("--tables", help="how relative tables are resized: geometric, bicubic or timm")
    change.add_argument("--head", choices=["keep", "drop"], default="keep", help="classifier or decoder")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; a user's mistake ends in one sentence and status 2."""
    return run_command(lambda: _run(make_parser().parse_args(arguments)), interrupted=NOTHING_WRITTEN, closed_pipe=0)


def _run(flags: argparse.Namespace) -> int:
    """What is wrong with flags and paths is told at once, before JAX is imported."""
    if flags.list is not None:
        from mim_jax.weights.known import table

        return _tell([table(flags.list)])
    if flags.checkpoint is None:
        raise InputError("no checkpoint given; try convert_torch_weights.py CHECKPOINT OUTPUT, or --list")
    if flags.output is None and not flags.inspect:
        raise InputError("no output given; name a folder to write, or take --inspect")
    source = local_path(flags.checkpoint)
    if flags.inspect:
        return _inspect(source, flags)
    return _export(source, flags) if flags.to else _convert(source, flags)


def _tell(lines: Iterable[str]) -> int:
    for line in lines:
        print(line)
    return 0


def _options(flags: argparse.Namespace) -> Any:
    from mim_jax.weights.options import Options, parse_statements

    stated = parse_statements(flags.set)
    return Options(flags.select, flags.layout, stated, flags.dtype, flags.lenient, flags.allow_nonfinite)


def _inspect(source: Path, flags: argparse.Namespace) -> int:
    from mim_jax.weights.checking import check_weights

    options = _options(flags)
    if check_weights(source) is None:
        raise InputError(f"{source} is a model of ours and needs no conversion; its model.json says what it is")
    from mim_jax.weights.inspecting import inspect

    return _tell(inspect(source, options))


def _convert(source: Path, flags: argparse.Namespace) -> int:
    from mim_jax.weights.checking import check_weights
    from mim_jax.weights.files.hashing import hashing
    from mim_jax.weights.outputs import check_apart, check_output

    output, changes, options = local_path(flags.output), _changes(flags), _options(flags)
    file = check_weights(source)
    if file is None:
        raise InputError(f"{source} is a model of ours and needs no conversion; use it as it is, or --to torch")
    check_output(output, flags.overwrite)
    check_apart(source, output)
    with hashing(file.files) as digest, interruptible():  # hashing goes on while JAX is imported
        from mim_jax.weights.converting import convert, convert_adapted

        common = {"overwrite": flags.overwrite, "digest": digest}
        if changes or flags.head == "drop":
            model = convert_adapted(file, output, options, changes, keep_head=flags.head == "keep", **common)
            lines = [f"note: {note}" for note in model.notes]
        else:
            lines = convert(file, output, options, **common).report()
    _tell([*lines, f"wrote {output}"])
    return _verify(source, output) if flags.verify else 0


def _changes(flags: argparse.Namespace) -> dict[str, Any]:
    names = ("window", "relative_position_bias", "positions", "tables")
    changes = {name: getattr(flags, name) for name in names if getattr(flags, name) is not None}
    if flags.image_size:
        try:
            sides = [int(side) for side in flags.image_size.split(",")]
            height, width = sides * 2 if len(sides) == 1 else sides
        except ValueError as error:
            raise InputError(f"--image_size={flags.image_size} is no size; write 384 or 384,512") from error
        changes["image_size"] = (height, width)
    return changes


def _verify(source: Path, output: Path) -> int:
    from mim_jax.weights.loading import load
    from mim_jax.weights.verifying import verify

    verification = verify(source, load(output))
    print(verification.table)
    return 0 if verification.passed else 1


def _export(source: Path, flags: argparse.Namespace) -> int:
    from mim_jax.weights.checking import check_weights
    from mim_jax.weights.options import check_layout
    from mim_jax.weights.outputs import check_apart, check_export

    output = local_path(flags.output)
    check_weights(source)
    check_export(output, flags.overwrite)
    check_apart(source, output)
    check_layout(flags.layout)
    from mim_jax.weights.exporting import export
    from mim_jax.weights.loading import load

    with interruptible():
        written = export(load(source), output, flags.layout)
    return _tell([f"wrote {written}"])


if __name__ == "__main__":
    gc.set_threshold(100_000)  # what imports make is no garbage; to look for it took a quarter of their time
    status = main()
    gc.freeze()  # nor need it be looked for at the end
    sys.exit(status)
