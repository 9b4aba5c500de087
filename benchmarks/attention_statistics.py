"""A pass of ViT-B/16 with and without attention statistics, images/s beside plain PyTorch.

    python benchmarks/attention_statistics.py --image_size=224 --batch_size=8
    python benchmarks/attention_statistics.py --image_size=1024 --memory

A process for every contender, one pass of each a round, in turn, as in `against_torch.py`: `plain` and `statistics` are
ours, without and with all statistics of attention; `torch_fused` is PyTorch with fused attention and no statistics;
`torch_statistics` materialises the attention maps of one block after the other and reduces them by the formulas. A
ratio is the median of the ratios of the rounds. With `--memory` nothing runs: it compiles ours and prints the temporary
memory that the compiled programs ask for.
"""

import argparse
import importlib.util
import multiprocessing
import os
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from against_torch import Advance, Sample, measure, sample

from mim_jax.analysis.collecting import measured_batch
from mim_jax.analysis.measuring import Measure
from mim_jax.models.build import initial_parameters, make_encoder
from mim_jax.models.flops import encoder_flops
from mim_jax.models.presets import encoder_config

OURS, THEIRS = ("plain", "statistics"), ("torch_fused", "torch_statistics")
RATIOS = [
    ("statistics", "plain"),
    ("torch_statistics", "torch_fused"),
    ("statistics", "torch_statistics"),
    ("statistics", "torch_fused"),
    ("plain", "torch_fused"),
]


def configuration(arguments: argparse.Namespace) -> Any:
    """ViT-B/16 at the size and depth asked for."""
    size = (arguments.image_size, arguments.image_size)
    return encoder_config("vit_base_patch16", image_size=size, depth=arguments.depth)


def forward(contender: str, config: Any) -> Any:
    """Our pass, `(parameters, images) -> last tokens`, or all statistics of blocks and tokens over the batch."""
    encoder = make_encoder(config)
    measure = Measure(encoder, config)

    def run(parameters: Any, images: Any) -> Any:
        if contender == "plain":
            return encoder.apply({"params": parameters}, images).tokens
        valid = jnp.ones(images.shape[0], bool)
        return measured_batch(jax.tree_util.Partial(measure, parameters), images, valid)

    return jax.jit(run)


def ours(contender: str, arguments: argparse.Namespace, images: np.ndarray) -> Advance:
    """A pass of this project."""
    config, batch = configuration(arguments), jnp.asarray(images)
    parameters, run = initial_parameters(config, jax.random.key(0)), forward(contender, config)
    return lambda: jax.block_until_ready(run(parameters, batch))


def theirs(contender: str, arguments: argparse.Namespace, images: np.ndarray) -> Advance:
    """A pass in PyTorch."""
    import torch
    from torch_vit import MAE, ViTSize

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    size = ViTSize(image=arguments.image_size, depth=arguments.depth, decoder_depth=1)
    model, data = MAE(size, fused=contender == "torch_fused").eval(), torch.tensor(np.moveaxis(images, -1, 1).copy())
    observed: list[Any] = []
    if contender == "torch_statistics":
        rows, columns = np.divmod(np.arange(size.side**2), size.side)
        distances = size.patch * np.hypot(rows[:, None] - rows, columns[:, None] - columns)
        distances = torch.tensor(distances, dtype=torch.float32)
        for block in model.blocks:
            block.forward = lambda x, block=block: torch_block(block, x, distances, size.side, observed)

    def advance() -> None:
        observed.clear()
        with torch.inference_mode():
            model.encode(data)

    return advance


def torch_block(block: Any, x: Any, distances: Any, side: int, observed: list[Any]) -> Any:
    """A block whose attention is written out; appends its statistics to `observed`."""
    batch, tokens, width = x.shape
    heads = block.attn.qkv(block.norm1(x)).reshape(batch, tokens, 3, block.attn.heads, -1)
    query, key, value = heads.permute(2, 0, 3, 1, 4)
    maps = (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1)
    branch = block.attn.proj((maps @ value).transpose(1, 2).reshape(x.shape))
    observed.append(torch_statistics(maps, distances, side) | torch_magnitudes(x, branch))
    x = x + branch
    return x + block.mlp(block.norm2(x))


def torch_statistics(maps: Any, distances: Any, side: int) -> dict[str, Any]:
    """Statistics by image and head of maps `[b, k, n, n]` with the class token first."""
    to_patches = maps[..., 1:].sum(-1)
    own = maps.diagonal(dim1=-2, dim2=-1)
    patches = maps[..., 1:] / to_patches[..., None]
    logarithms = patches.log()
    entropy = -(patches * logarithms).sum(-1)
    patches, logarithms = patches[..., 1:, :], logarithms[..., 1:, :]
    columns, mean_entropy = patches.mean(-2), entropy[..., 1:].mean(-1)
    entropy_of_columns = -(columns * columns.log()).sum(-1)
    cross = -(patches.flatten(2) @ logarithms.flatten(2).mT) / side**2
    return {
        "attention_distance": (patches * distances).sum(-1).mean(-1),
        "attention_entropy": mean_entropy,
        "attention_entropy_with_prefix": -(maps * maps.log()).sum(-1)[..., 1:].mean(-1),
        "kl_between_heads": cross - cross.diagonal(dim1=-2, dim2=-1)[..., None],
        "normalised_mutual_information": (entropy_of_columns - mean_entropy)
        / (np.log(side**2) * entropy_of_columns).sqrt(),
        "attention_received": maps[..., 1:, :].mean(-2),
        "aligned": torch_aligned(patches, side),
        "class_self_attention": own[..., 0],
        "class_self_attention_against_patches": own[..., 0] / to_patches[..., 0],
        "self_attention": own[..., 1:].mean(-1),
        "self_attention_against_patches": (own / to_patches)[..., 1:].mean(-1),
        "class_attention_to_a_patch": maps[..., 0, 1:].mean(-1),
        "attention_to_class": maps[..., 1:, 0].mean(-1),
        "class_attention_entropy": entropy[..., 0],
    }


def torch_aligned(patches: Any, side: int) -> Any:
    """Attention of patches by offset of the key, `[b, k, 2 side - 1, 2 side - 1]`: maps shifted by query and added."""
    total = patches.new_zeros(*patches.shape[:2], 2 * side - 1, 2 * side - 1)
    for query in range(side**2):
        row, column = side - 1 - query // side, side - 1 - query % side
        here = patches[..., query, :].unflatten(-1, (side, side))
        total[..., row : row + side, column : column + side] += here
    return total / side**2


def torch_magnitudes(x: Any, branch: Any) -> dict[str, Any]:
    """Norm of the attention branch over that of its input, of class token and patches."""
    ratio = branch.norm(dim=-1) / x.norm(dim=-1)
    return {"class_update_magnitude": ratio[:, 0], "update_magnitude": ratio[:, 1:].mean(-1)}


def serve(connection: Any, contender: str, arguments: argparse.Namespace) -> None:
    """What the process of a contender does."""
    shape = (arguments.batch_size, arguments.image_size, arguments.image_size, 3)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    advance = (ours if contender in OURS else theirs)(contender, arguments, images)
    for _ in range(2):
        advance()
    connection.send(None)
    while connection.recv():
        connection.send(sample(advance))


def start(contender: str, arguments: argparse.Namespace) -> Any:
    """A connection to the new process of a contender that is ready."""
    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe()
    context.Process(target=serve, args=(other, contender, arguments), daemon=True).start()
    mine.recv()
    return mine


def report(samples: dict[str, list[Sample]], arguments: argparse.Namespace) -> None:
    """Prints a line for every contender and every ratio."""
    flops = encoder_flops(configuration(arguments)) * arguments.batch_size
    for name, own in samples.items():
        seconds, others = (statistics.median(getattr(one, field) for one in own) for field in ("seconds", "others"))
        print(
            f"{name}: {1e3 * seconds:.0f} ms ({1e3 * min(own).seconds:.0f}-{1e3 * max(own).seconds:.0f}), "
            f"{arguments.batch_size / seconds:.2f} images/s, {flops / seconds / 1e9:.0f} GFLOP/s of the model, "
            f"others {others:.2f} s"
        )
    for name, reference in RATIOS:
        if name in samples and reference in samples:
            ratios = [a.seconds / b.seconds for a, b in zip(samples[name], samples[reference])]
            print(f"{name} takes {statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f}) x {reference}")


def report_memory(arguments: argparse.Namespace) -> None:
    """Prints the temporary memory of our compiled passes, which do not run."""
    config = configuration(arguments)
    parameters = jax.eval_shape(lambda: initial_parameters(config, jax.random.key(0)))
    images = jax.ShapeDtypeStruct((arguments.batch_size, *config.image_size, 3), jnp.float32)
    for contender in arguments.contenders.split(","):
        if contender in OURS:
            compiled = forward(contender, config).lower(parameters, images).compile()
            temporary = compiled.memory_analysis().temp_size_in_bytes / arguments.batch_size
            print(f"{contender}: {temporary / 2**20:,.0f} MiB of temporary memory an image", flush=True)


def main() -> None:
    """Parses the flags, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="cores of every contender; left out, all that there are")
    parser.add_argument("--contenders", default=",".join(OURS + THEIRS))
    parser.add_argument("--memory", action="store_true", help="compile only, and print the memory")
    arguments = parser.parse_args()
    if arguments.threads:  # before any process starts its threads; the processes inherit it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    print(
        f"ViT-B/16 with {arguments.depth} blocks at {arguments.image_size} pixels, batch {arguments.batch_size}, "
        f"{len(os.sched_getaffinity(0))} cores"
    )
    if arguments.memory:
        return report_memory(arguments)
    contenders = arguments.contenders.split(",")
    if not importlib.util.find_spec("torch"):
        contenders = [name for name in contenders if name in OURS]
    report(measure({name: start(name, arguments) for name in contenders}, arguments.rounds), arguments)


if __name__ == "__main__":
    main()
