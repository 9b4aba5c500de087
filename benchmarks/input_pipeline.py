"""Images per second of the input pipeline, beside a bare PIL loop over the same files.

    python benchmarks/input_pipeline.py [--images=256] [--rounds=7] [--threads=0,1,16] [--folder=/data/photos]

Both decode JPEGs of about 500x375 pixels and 31 KB (generated, unless a folder is given), take a random resized crop to
224 pixels with PIL's bicubic and flip it. In every round all variants run one after the other; a ratio is that of two
numbers of one round, and the table shows the median and, in brackets, the least and the greatest.

images/s   per second of wall-clock time
of cores   images/s, divided by (threads or cores, the fewer) times images/s of the bare loop in one thread; what the
           machine itself allows is seen in the bare loop in several threads
CPU ms     processor time per image: what a busy machine does not change
of CPU     processor time of the bare loop, divided by that of the variant
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mim_jax.data import Source, TrainingBatches, make_transform, open_source
from mim_jax.data.reading import usable_cores
from mim_jax.data.transforms import RATIO, random_resized_crop_box

SIZE = (224, 224)
BATCH = 64


class Timing(NamedTuple):
    """Images per second of wall-clock time, and per second of processor time."""

    wall: float
    cpu: float


def write_photos(folder: Path, count: int) -> None:
    """JPEGs with the size in pixels and bytes of an average photo: smooth structure with a little grain."""
    rng = np.random.default_rng(0)
    for number in range(count):
        smooth = Image.fromarray(rng.integers(0, 256, (47, 63, 3)).astype(np.uint8)).resize((500, 375))
        pixels = np.asarray(smooth, np.float32) + rng.normal(0, 3, (375, 500, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:05d}.jpg", quality=60)


def bare_loop(files: Sequence[str]) -> None:
    """What anyone would write first: open, convert, crop, resize, flip."""
    rng = np.random.default_rng(0)
    for file in files:
        image = Image.open(file).convert("RGB")
        top, left, height, width = random_resized_crop_box(image.height, image.width, (0.2, 1.0), RATIO, rng)
        image = image.crop((left, top, left + width, top + height)).resize(SIZE, Image.Resampling.BICUBIC)
        np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image)


def bare_threads(files: Sequence[str], threads: int) -> None:
    """The bare loop over parts of the files in a thread pool: what the machine gives at most."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(bare_loop, [files[part :: 4 * threads] for part in range(4 * threads)]))


def pipeline(source: Source, threads: int) -> None:
    """One epoch of the project's pipeline."""
    transform = make_transform("mae_pretrain", image_size=SIZE)
    batches = TrainingBatches(source, transform, batch_size=BATCH, seed=0, num_threads=threads)
    for _ in batches.iterate(0, batches.steps_per_epoch):
        pass


def variants(source: Source, files: Sequence[str], threads: Sequence[int]) -> dict[tuple[str, int], Callable[[], None]]:
    """Name and threads of everything timed; the bare loop in one thread comes first."""
    table = {("PIL loop", 1): lambda: bare_loop(files)}
    table |= {("PIL loop", n): lambda n=n: bare_threads(files, n) for n in threads if n > 1}
    return table | {("pipeline", n): lambda n=n: pipeline(source, n) for n in threads}


def timed(run: Callable[[], None], images: int) -> Timing:
    """Run once."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Timing(images / (time.perf_counter() - wall), images / (time.process_time() - cpu))


def spread(values: Sequence[float]) -> str:
    """Median, least and greatest."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def report(rounds: Sequence[dict[tuple[str, int], Timing]], cores: int) -> None:
    """Print the table."""
    base = [next(iter(timings.values())) for timings in rounds]
    print(f"{'':10}{'threads':>8}{'images/s':>10}   {'of cores':20}{'CPU ms':>8}   of CPU")
    for key in rounds[0]:
        timings = [timings[key] for timings in rounds]
        used = min(max(key[1], 1), cores)
        wall = spread([timing.wall / (used * bare.wall) for timing, bare in zip(timings, base, strict=True)])
        cpu = spread([timing.cpu / bare.cpu for timing, bare in zip(timings, base, strict=True)])
        speed, cost = (statistics.median(values) for values in zip(*timings, strict=True))
        print(f"{key[0]:10}{key[1]:>8}{speed:>10.0f}   {wall:20}{1000 / cost:>8.2f}   {cpu}")


def main() -> None:
    """Measure and print."""
    cores = usable_cores()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256, help=f"images to generate, at least {BATCH}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", default=f"0,1,{cores},{4 * cores}", help="threads of the pipeline; 0 is none")
    parser.add_argument("--folder", default="", help="an image folder to use instead of generated images")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if not options.folder:
            write_photos(Path(scratch), options.images)
        source = open_source(f"folder:{options.folder or scratch}", "train")
        images = len(source) // BATCH * BATCH
        files = [source.describe(index) for index in range(images)]
        table = variants(source, files, [int(number) for number in options.threads.split(",")])
        bare_loop(files)  # brings the files into memory
        rounds = [{key: timed(run, images) for key, run in table.items()} for _ in range(options.rounds)]
        size = statistics.mean(map(os.path.getsize, files)) / 1000
    print(f"{images} images of {size:.0f} KB, {cores} cores, median of {options.rounds} rounds [least, greatest]")
    report(rounds, cores)


if __name__ == "__main__":
    main()
