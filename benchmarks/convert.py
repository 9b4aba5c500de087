"""A ViT-L/16 checkpoint read by torch.load and by this project, and converted, in one run: time and peak memory.

    taskset -c 1 python benchmarks/convert.py --scratch=/tmp/convert --contenders=load,command,torch

`torch` is `torch.load` and a NumPy copy of every tensor, `rewrite` the same and `safetensors.numpy.save_file`, `load`
is `mim_jax.load`, `command` is `python convert_torch_weights.py`, `before` that of another checkout (`--before`).

Every sample is a process of its own; one of each a round, in turn, so that whatever else the machine does meets all of
them. Imports are measured apart; the command's in a process that does nothing else. The peak is that of the resident
memory, above what it is after the imports. The file, of 1.2 GB, is written into the scratch folder and deleted at the
end; it lies in the system's cache unless `--cold` is given. CPU seconds are those of the program and, after the plus,
of the system: fresh memory costs much of these on a virtual machine.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parents[1]
COMMAND = "convert_torch_weights.py"
ENCODER = "vit_large_patch16"
MEBIBYTE = 2**20


class Sample(NamedTuple):
    """One run: seconds of the work and of the imports, CPU seconds of the work in program and system, peak in MiB."""

    seconds: float
    imports: float
    program: float
    system: float
    peak: float


def read_by_torch() -> Callable[[Path], Any]:
    """As users read the files of others, and as NumPy's what comes out of it."""
    import torch

    def read(path: Path) -> Any:
        content = torch.load(path, map_location="cpu", weights_only=False)
        return {name: tensor.numpy().copy() for name, tensor in content["model"].items()}

    return read


def rewrite_by_torch() -> Callable[[Path], Any]:
    """As users turn the files of others into those of safetensors."""
    from safetensors.numpy import save_file

    read = read_by_torch()
    return lambda path: save_file(read(path), path.with_name("rewritten.safetensors"))


def read_by_us() -> Callable[[Path], Any]:
    """`mim_jax.load`."""
    from mim_jax.weights.loading import load

    return load


READERS: dict[str, Callable[[], Callable[[Path], Any]]] = {
    "torch": read_by_torch,
    "rewrite": rewrite_by_torch,
    "load": read_by_us,
}
"""Contender to what imports its libraries and returns what reads a file."""


def read(contender: str, file: Path) -> Sample:
    """A sample of this process, which must be fresh."""
    start = time.perf_counter()
    reader = READERS[contender]()
    imports = time.perf_counter() - start
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, cpu, start = memory("VmRSS"), os.times(), time.perf_counter()
    content = reader(file)
    seconds, used = time.perf_counter() - start, os.times()
    del content
    return Sample(seconds, imports, used.user - cpu.user, used.system - cpu.system, memory("VmHWM") - before)


def memory(field: str) -> float:
    """A size of this process from /proc (Linux), in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def run(*arguments: str | Path) -> Sample:
    """A sample of another process, all of it."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed")
    return Sample(time.perf_counter() - start, 0.0, used.ru_utime, used.ru_stime, used.ru_maxrss / 1024)


def convert(file: Path, root: Path) -> Sample:
    """A sample of the command of a checkout, less what its imports alone take."""
    output = file.with_name("converted")
    imports = run("-c", f"import sys; sys.path.insert(0, {str(root)!r}); import mim_jax.weights.converting")
    whole = run(root / COMMAND, file, output)
    shutil.rmtree(output)
    return Sample(*(b - a for a, b in zip(imports, whole)))._replace(imports=imports.seconds)


def sample(contender: str, file: Path, before: Path) -> Sample:
    """One run of a contender."""
    if contender in ("command", "before"):
        return convert(file, HERE if contender == "command" else before)
    command = [sys.executable, __file__, "--sample", contender, "--file", str(file)]
    return Sample(*json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def write_checkpoint(file: Path) -> None:
    """A file as MAE publishes its encoders, with random weights."""
    import jax
    import numpy as np
    import torch

    from mim_jax.data.preprocessing import Preprocessing
    from mim_jax.models.presets import encoder_config
    from mim_jax.ops.positions import position_table
    from mim_jax.weights.exporting import export_arrays
    from mim_jax.weights.model import Model, parameter_shapes

    config, random = encoder_config(ENCODER), np.random.default_rng(0)
    draw = lambda leaf: random.standard_normal(leaf.shape, np.float32)
    parameters = jax.tree.map(draw, parameter_shapes(config, None))
    table = position_table(config.position, config.grid, config.width, config.position_prefix)
    parameters["encoder"]["pos_embed"] = {"table": table.astype(np.float32)}
    arrays = export_arrays(Model(config, parameters, Preprocessing(config.image_size)), "timm_vit")
    torch.save({"model": {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}}, file)


def measure(contenders: list[str], file: Path, rounds: int, cold: bool, before: Path) -> dict[str, list[Sample]]:
    """The samples of every contender."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name in contenders:
            if cold:
                forget(file)
            samples[name].append(sample(name, file, before))
    return samples


def forget(file: Path) -> None:
    """Puts a file out of the system's cache."""
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def report(samples: dict[str, list[Sample]]) -> None:
    """Prints a line for each contender; ratios of medians to the last one, with the range over the rounds."""
    reference = list(samples)[-1]
    for name, own in samples.items():
        seconds, imports, program, system, peak = (statistics.median(column) for column in zip(*own))
        print(f"{name}: {seconds:.2f} s ({min(own).seconds:.2f}-{max(own).seconds:.2f}), ", end="")
        print(f"CPU {program:.2f} + {system:.2f} s, peak {peak:.0f} MiB, imports {imports:.2f} s", end="")
        if name != reference:
            for field, what in (("seconds", "time"), ("peak", "peak")):
                print(f", {ratio(own, samples[reference], field)} x the {what} of {reference}", end="")
        print()


def ratio(own: list[Sample], others: list[Sample], field: str) -> str:
    """Ratio of medians, and the smallest and largest ratio of a round."""
    mine, theirs = ([getattr(sample, field) for sample in samples] for samples in (own, others))
    rounds = [a / b for a, b in zip(mine, theirs)]
    return f"{statistics.median(mine) / statistics.median(theirs):.3f} ({min(rounds):.3f}-{max(rounds):.3f})"


def main() -> None:
    """Parses the flags, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, help="folder for 2.5 GB, deleted at the end; must not be there")
    parser.add_argument("--contenders", default="load,command,torch", help="the ratios are to the last one")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--before", type=Path, default=HERE, help="the checkout of the contender `before`")
    parser.add_argument("--cold", action="store_true", help="the file is read from the disk")
    parser.add_argument("--sample", choices=[*READERS, "write"], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.sample == "write":
        return write_checkpoint(arguments.file)
    if arguments.sample:
        return print(json.dumps(read(arguments.sample, arguments.file)))
    if arguments.scratch is None:
        parser.error("--scratch is needed")
    arguments.scratch.mkdir(parents=True)
    try:
        file = arguments.scratch / "checkpoint.pth"
        subprocess.run([sys.executable, __file__, "--sample=write", "--file", str(file)], check=True)
        cores = len(os.sched_getaffinity(0))
        print(f"{file.stat().st_size / MEBIBYTE:.0f} MiB, {cores} core(s), {'cold' if arguments.cold else 'warm'}")
        contenders, before = arguments.contenders.split(","), arguments.before.resolve()
        report(measure(contenders, file, arguments.rounds, arguments.cold, before))
    finally:
        shutil.rmtree(arguments.scratch)


if __name__ == "__main__":
    main()
