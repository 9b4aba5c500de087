"""Damages sound checkpoint files in every way that a seed gives, and says what opening them led to.

`python -m tests.weights.mutations --count 10000 --seed 0` changes whole small networks (`mutated_networks`) with
limited memory and time, and stops with a traceback at whatever is neither a model nor an InputError; with `--of bytes`
it damages files as they lie on a disk.
"""

import argparse
import io
import pickletools
import random
import resource
import signal
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mim_jax.errors import InputError
from mim_jax.weights.files.checkpoint_file import open_checkpoint
from mim_jax.weights.files.content import walk
from mim_jax.weights.files.tensors import StoredTensor
from tests.weights.test_torch_tar import torch_tar

BAD = Path(__file__).parents[1] / "golden" / "bad"
FILES = (
    "good.pth good.safetensors legacy_format.pth protocol4.pth opaque_objects.pth config_object.pth parameters.pth "
    "views_and_shared_storage.pth deflated_zip.pth bfloat16.safetensors shared_tensor_twice.pth arrays.npz packed.npz "
    "tar.pth"
).split()
MEMORY = 2 * 2**30
SECONDS = 20

TASTELESS = (0, 1, 0x7F, 0x80, 0xFF)  # bytes that numbers dislike


def original(name: str) -> bytes:
    """A sound file."""
    if name == "tar.pth":
        return torch_tar()
    if name.endswith(".npz"):
        file = io.BytesIO()
        save = np.savez if name == "arrays.npz" else np.savez_compressed
        save(file, **{"a/b": np.arange(6.0).reshape(2, 3).T, "c": np.ones(5, np.float32), "d": np.array(1, ">i4")})
        return file.getvalue()
    return (BAD / name).read_bytes()


def flip(data: bytes, draw: random.Random) -> bytes:
    """Some bytes changed."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5, 30))):
        at = draw.randrange(len(changed))
        changed[at] = draw.choice((draw.randrange(256), draw.choice(TASTELESS), changed[at] ^ (1 << draw.randrange(8))))
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    """Only the beginning, or only the end."""
    at = draw.randrange(len(data))
    return data[:at] if draw.random() < 0.8 else data[at:]


def splice(data: bytes, draw: random.Random) -> bytes:
    """A piece left out, repeated, put elsewhere, or put in from another file."""
    first, last = sorted(draw.randrange(len(data)) for _ in range(2))
    last = min(last, first + draw.choice((1, 8, 100, 5000)))
    at = draw.randrange(len(data))
    piece = draw.choice(
        (b"", data[first:last] * 2, bytes(8), data[at : at + 50], original(draw.choice(FILES))[first:last])
    )
    return data[:first] + piece + data[last:]


def edit_numbers(data: bytes, draw: random.Random) -> bytes:
    """Digits changed: sizes and offsets in the headers of safetensors and arrays."""
    changed = bytearray(data)
    digits = [at for at, byte in enumerate(data[:6000]) if 48 <= byte < 58] or [0]
    for _ in range(draw.choice((1, 1, 3))):
        changed[draw.choice(digits)] = draw.choice(b'0123456789-.,[]{}"e ')
    return bytes(changed)


def edit_operations(pickle: bytes, draw: random.Random) -> bytes:
    """A pickle with operations left out, repeated, exchanged, or with other arguments."""
    starts = [at for _, _, at in pickletools.genops(pickle)] + [len(pickle)]
    operations = [pickle[begin:end] for begin, end in zip(starts, starts[1:])]
    for _ in range(draw.choice((1, 2, 4, 20))):
        at, other = draw.randrange(len(operations)), draw.randrange(len(operations))
        action = draw.randrange(5)
        if action == 0:
            del operations[at]
        elif action == 1:
            operations[at] = operations[other]
        elif action == 2:
            operations[at:at] = operations[other : other + draw.randrange(30)]
        elif action == 3:
            operations[at], operations[other] = operations[other], operations[at]
        else:
            code = draw.choice(pickletools.opcodes).code.encode("latin-1")
            operations[at] = code + operations[at][1:]
    return b"".join(operations)


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, cut, splice, edit_numbers)


def repack(data: bytes, draw: random.Random) -> bytes:
    """A zip archive in which one entry is changed and has a checksum to match; mostly the pickle."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    pickles = [name for name in entries if name.endswith("data.pkl")]
    name = pickles[0] if pickles and draw.random() < 0.9 else draw.choice(list(entries))
    changes = (*BYTES, edit_operations, edit_operations, edit_operations) if name in pickles else BYTES
    entries[name] = draw.choice(changes)(entries[name], draw) if entries[name] else b"x"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def edit_legacy(data: bytes, draw: random.Random) -> bytes:
    """A file of the old format with another pickle in it."""
    file = io.BytesIO(data)
    ends = [0]
    for _ in range(5):
        list(pickletools.genops(file))
        ends.append(file.tell())
    number = draw.choice((2, 3, 3, 3, 4))
    pickle = edit_operations(data[ends[number] : ends[number + 1]], draw)
    return data[: ends[number]] + pickle + data[ends[number + 1] :]


def mutate(seed: int) -> bytes:
    """A damaged file."""
    draw = random.Random(seed)
    name = draw.choice(FILES)
    data = original(name)
    inside = repack if data[:2] == b"PK" else edit_legacy if name == "legacy_format.pth" else edit_numbers
    return (inside if draw.random() < 0.6 else draw.choice(BYTES))(data, draw)


def outcome(path: Path) -> str:
    """Opens a file, reads and prints all it holds: "read", or what kind of refusal; anything else is raised."""
    try:
        content = open_checkpoint(path).content
        for _, value in walk(content):
            if isinstance(value, StoredTensor):
                array = value.read()
                assert (array.shape, array.dtype) == (value.shape, value.dtype)
                array.tobytes()  # touches every element
        assert repr(content)
        return "read"
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 400, str(error)
        return "refused"


def run(seeds: range, folder: Path, ends: Callable[[int, Path], str]) -> Counter:
    """How many of the seeds led to which outcome."""
    outcomes: Counter = Counter()
    for seed in seeds:
        try:
            outcomes[ends(seed, folder)] += 1
        except BaseException as error:
            raise AssertionError(f"seed {seed} raised {type(error).__name__}: {error}") from error
    return outcomes


def damaged(seed: int, folder: Path) -> str:
    """What opening the damaged file of a seed leads to."""
    path = folder / "mutated"
    path.write_bytes(mutate(seed))
    return outcome(path)


def _too_slow(*arguments: object) -> None:
    raise TimeoutError("reading took too long")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--of", choices=("networks", "bytes"), default="networks")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--all", action="store_true", help="go on where one fails, and list those at the end")
    flags = parser.parse_args()
    if flags.of == "networks":
        from tests.weights.mutated_networks import ends
    else:
        ends = damaged
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    signal.signal(signal.SIGALRM, _too_slow)
    total: Counter = Counter()
    for seed in range(flags.seed, flags.seed + flags.count):
        signal.alarm(SECONDS)
        try:
            with tempfile.TemporaryDirectory() as folder:
                total += run(range(seed, seed + 1), Path(folder), ends)
        except AssertionError as error:
            if not flags.all:
                raise
            total["wrong"] += 1
            print(error, flush=True)
    print(dict(total))


if __name__ == "__main__":
    main()
