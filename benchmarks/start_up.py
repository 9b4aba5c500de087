"""Seconds until a command answers: mistakes that can be told at once, help and lists, beside another build.

    python benchmarks/start_up.py --rounds=5
    python benchmarks/start_up.py --rounds=5 --against=../before

Every sample is a new process, one of each build a round, in turn. Prints the least, the median and the most of each,
the status, and the line that a user reads. `--against` is another checkout, run by the same Python.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parents[1]
RUN = ("main.py", "--config=configs/quickstart.py", "--workdir={folder}/run")
PROBE = ("main.py", "--config=configs/probe/poolings.py", "--workdir={folder}/run")
ANALYZE = ("main.py", "--config=configs/analyze.py", "--workdir={folder}/run")

CASES: dict[str, tuple[str, ...]] = {
    "no such data": (*RUN, "--config.data.source={folder}/nowhere"),
    "images beside class folders": (*RUN, "--config.data.source={folder}/mixed"),
    "a split without folder": (*RUN, "--config.data.source={folder}/training_only"),
    "no such key": (*RUN, "--config.optimization.learningrate=1.0"),
    "a workdir that is a file": (*RUN[:-1], "--workdir={folder}/file"),
    "no such encoder": (*PROBE, "--encoder=a={folder}/nowhere"),
    "a folder that is no encoder": (*ANALYZE, "--encoder=a={folder}/mixed"),
    "a file that is no weights": (*ANALYZE, "--encoder=a={folder}/file"),
    "convert: no such file": ("convert_torch_weights.py", "{folder}/nowhere.pth", "{folder}/model"),
    "convert: no weights": ("convert_torch_weights.py", "{folder}/file", "{folder}/model"),
    "convert --list": ("convert_torch_weights.py", "--list"),
    "convert --help": ("convert_torch_weights.py", "--help"),
    "main --help": ("main.py", "--help"),
}
"""What is asked for, to the command; {folder} is one with what the commands meet."""


class Sample(NamedTuple):
    """One run: seconds by the clock, the status, and the last line that was printed."""

    seconds: float
    status: int
    line: str


def prepare(folder: Path) -> None:
    """Folders and files to run into; no image is ever opened, so an empty file stands for one."""
    for name in ("mixed/loose.png", "mixed/class/one.png", "training_only/train/class/one.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "file").write_text("no weights\n", encoding="utf-8")


def sample(root: Path, command: Sequence[str]) -> Sample:
    """One run of a command of a checkout."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=root, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    lines = (done.stderr or done.stdout).strip().splitlines() or [""]
    return Sample(seconds, done.returncode, lines[-1])


def main() -> None:
    """Parses the flags, runs every case, and prints a line for each build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="runs of every case")
    parser.add_argument("--against", type=Path, help="another checkout to run in turn with this one")
    parser.add_argument("--cases", default="", help="only cases whose name has this in it")
    flags = parser.parse_args()
    roots = {"this": HERE} | ({"other": flags.against.resolve()} if flags.against else {})
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for case, command in CASES.items():
            if flags.cases not in case:
                continue
            filled = [part.format(folder=folder) for part in command]
            samples: dict[str, list[Sample]] = {build: [] for build in roots}
            for _ in range(flags.rounds):
                for build, root in roots.items():
                    samples[build].append(sample(root, filled))
                    shutil.rmtree(Path(folder) / "run", ignore_errors=True)
            for build, found in samples.items():
                tell(case, build, found)


def tell(case: str, build: str, found: list[Sample]) -> None:
    """Prints one line about the samples of a build."""
    seconds = sorted(each.seconds for each in found)
    spread = f"{seconds[0]:.2f} / {statistics.median(seconds):.2f} / {seconds[-1]:.2f} s"
    print(f"{case:28} {build:5} {spread}  status {found[-1].status}  {found[-1].line[:90]}", flush=True)


if __name__ == "__main__":
    main()
