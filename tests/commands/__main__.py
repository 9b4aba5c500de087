"""Runs what the documentation shows, each page in a fresh copy of the project, as a user would in a plain shell.

    python -m tests.commands                      # everything
    python -m tests.commands README.md docs/      # only pages whose path begins so; `defaults` are the encoders below

A command runs as it stands, with relative paths, in `bash -c`, by the `python` that stands first on the PATH. Three
things differ: installing and testing are left to the caller, published recipes are asked for their dry run (they take
days), benchmarks are stopped by Ctrl-C once they have run for a while.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.commands.pieces import python_of
from tests.commands.shown import ROOT, commands, pages
from tests.commands.stage import make_stage

LONGEST = 900.0
"""Seconds after which a command counts as hanging."""

PATIENCE = 20.0
"""Seconds that a benchmark may run before it is stopped."""

ALREADY_DONE = re.compile(r'^pip install -e (\.|"\.\[\w+\]")( && (pytest$)?)?')
DRY = re.compile(r"--config=configs/pretrain/(?!mae_cifar10)")

SHORT = (
    "--config.optimization.epochs=2.0 --config.optimization.warmup_epochs=0.5 --config.evaluation.probe=False "
    "--config.evaluation.attention=False --config.run.panel_every=0"
)
SWIN = (
    "--config.method.name=simmim --config.method.mask_patch=2 --config.model.name=swin_tiny_patch4_window7 "
    '--config.model.patch_size="(1,1)" --config.model.width=16 --config.model.depth=0 --config.model.num_heads=0 '
    '--config.model.depths="(1,2)" --config.model.stage_heads="(2,4)" --config.model.window=4'
)
FIRST = (
    f"python main.py --config=configs/cifar10/mae.py --workdir=runs/mae_vit_b16 {SHORT}",
    f"python main.py --config=configs/quickstart.py {SHORT}",
    f"python main.py --config=configs/quickstart.py --workdir=runs/swin {SWIN} {SHORT}",
    "mkdir -p runs/cifar10 runs/imagenette && for name in mae lut simmim_vit supervised; do "
    "cp -r runs/mae_vit_b16 runs/cifar10/$name; done; "
    "for name in mae lut simmim supervised; do cp -r runs/mae_vit_b16 runs/imagenette/$name; done",
)
"""Small runs that stand in for those that a page takes for granted."""

TRAINED_ON_THE_PAGE = {
    "README.md": ("runs/quickstart",),
    "configs/quickstart.py": ("runs/quickstart",),
    "docs/results.md": ("runs/cifar10", "runs/imagenette", "runs/quickstart"),
}
"""Folders that are not there yet where a page begins."""

ON_DIGITS = {"imagenette": "--config.data.test_split=test"}
TRAINED = "--config.trained.epochs=1.0 --config.trained.warmup_epochs=0.0"
STORED = "--config.frozen.train_images=300"
SHORTER = {
    "layers": STORED, "dinov2_grid": TRAINED, "mae": TRAINED, "analyze": "--config.statistics.images=100"
}  # fmt: skip
"""What makes a configuration for frozen encoders short; most train heads and also store features."""


def defaults() -> Iterator[str]:
    """Every configuration for frozen encoders, on the quickstart's encoder and on a Swin."""
    for path in (*sorted((ROOT / "configs/probe").glob("*.py")), ROOT / "configs/analyze.py"):
        for encoder in ("quickstart", "swin"):
            yield (
                f"python main.py --config={path.relative_to(ROOT)} --encoder={encoder}=runs/{encoder} "
                f"--workdir=runs/{path.stem}_{encoder} {SHORTER.get(path.stem, f'{TRAINED} {STORED}')} "
                f"{ON_DIGITS.get(path.stem, '')}".strip()
            )


def run(command: str, folder: Path) -> str:
    """What is wrong with a command; nothing if it did as it should."""
    stop_after = PATIENCE if "benchmarks/" in command else LONGEST
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
        try:
            process.wait(stop_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
        output.seek(0)
        text = output.read()
    seconds = time.monotonic() - started
    stopped = "benchmarks/" in command and seconds >= PATIENCE
    wrong = "" if process.returncode == 0 or stopped else f"status {process.returncode} after {seconds:.0f} s:\n{text}"
    outcome = "WRONG" if wrong else "right"
    print(f"{outcome} {seconds:6.1f} s  {' '.join(command.split())}\n{wrong}".rstrip(), flush=True)
    return wrong and f"{command}\n{wrong}"


def as_it_is_run(command: str) -> str:
    """A command as it stands, or with what the first lines of this file say."""
    command = ALREADY_DONE.sub("", command)
    return f"{command} --config.run.dry_run=True" if DRY.search(command) else command


def try_page(name: str, shown: list[str], python: str, prepared: Path) -> list[str]:
    """Runs all commands of a page, and its pieces of Python, in a copy of the prepared folder."""
    folder = prepared.parent / name.replace("/", " ")
    shutil.copytree(prepared, folder)
    for made in TRAINED_ON_THE_PAGE.get(name, ()):
        shutil.rmtree(folder / made)
    seen: dict[str, None] = dict.fromkeys(filter(None, map(as_it_is_run, shown)))
    wrong = [run(command, folder) for command in seen]
    if python:
        (folder / "pieces.py").write_text(python, encoding="utf-8")
        wrong.append(run("python pieces.py", folder))
    shutil.rmtree(folder)
    return list(filter(None, wrong))


def main(wanted: list[str]) -> int:
    """Runs every page, two at a time; returns 1 if anything is wrong."""
    names = {str(page.relative_to(ROOT)): page for page in pages()}
    todo = {name: (commands(page), python_of(name, page)) for name, page in names.items()}
    todo["defaults"] = (list(defaults()), "")
    todo = {name: what for name, what in todo.items() if not wanted or name.startswith(tuple(wanted))}
    with tempfile.TemporaryDirectory(prefix="as a user ") as folder, ThreadPoolExecutor(2) as pool:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{folder}/compiled")
        prepared = make_stage(Path(folder) / "first")
        wrong = [text for command in FIRST if (text := run(command, prepared))]
        if not wrong:
            found = pool.map(lambda name: try_page(name, *todo[name], prepared), todo)
            wrong = [text for page in found for text in page]
    print("\n\n".join(wrong) or f"all right: {len(todo)} pages")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
