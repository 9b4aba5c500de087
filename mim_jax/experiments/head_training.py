"""Training all heads of a probing run on one frozen encoder, in one pass over the images."""

import functools
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mim_jax.data.pipeline import TrainingBatches
from mim_jax.data.sources import Source
from mim_jax.errors import InputError
from mim_jax.experiments.probed_encoder import ProbedEncoder
from mim_jax.experiments.stored_features import extract
from mim_jax.models.flops import encoder_flops
from mim_jax.probing.bank import HeadOptions, ProbeBank
from mim_jax.probing.selection import grid
from mim_jax.training.checkpoints import Checkpoints
from mim_jax.training.loop import Training, Values, train
from mim_jax.training.metrics import Writers, open_writers
from mim_jax.training.schedules import linear_scaling, warmup_half_cosine
from mim_jax.training.sharding import global_batch, replicated
from mim_jax.training.state import TrainState
from mim_jax.training.throughput import Throughput, device_peak

NAMED_IMAGES = 16


def make_bank(probed: ProbedEncoder, classes: int, steps_per_epoch: int) -> tuple[ProbeBank, int]:
    """The probes of an encoder, and the number of updates they get."""
    trained = probed.settings.trained
    rates, decays = grid(trained.learning_rates, trained.weight_decays)
    total, warmup = (round(epochs * steps_per_epoch) for epochs in (trained.epochs, trained.warmup_epochs))
    if total < 1:
        raise InputError("the training of the probes has no step; raise config.trained.epochs or lower batch_size")
    bank = ProbeBank(
        probed.readings,
        probed.fixed,
        tuple(linear_scaling(rate, trained.batch_size) for rate in rates),
        decays,
        trained.optimizer,
        warmup_half_cosine(1.0, warmup_steps=min(warmup, total), total_steps=total),
        HeadOptions(classes, trained.batch_norm, trained.head_init, trained.compat_batch_norm_groups),
    )
    return bank, total


def train_heads(probed: ProbedEncoder, source: Source, folder: Path) -> tuple[TrainState, ProbeBank]:
    """Trains all heads of an encoder, from the last checkpoint in `folder` if there is one."""
    settings, mesh, first = probed.settings, probed.mesh, jax.process_index() == 0
    batches = make_batches(probed, source)
    bank, total = make_bank(probed, len(source.class_names), batches.steps_per_epoch)
    create = functools.partial(bank.initial_state, settings.trained.seed, probed.input_shapes)
    checkpoints = Checkpoints(folder / "checkpoints", keep_last=settings.run.keep_last)
    with checkpoints:
        state = _first_state(create, checkpoints, mesh)
        if first:
            place = f"goes on from step {int(state.step)}" if int(state.step) else "starts"
            print(f"{probed.name}: {len(bank.readings) * bank.width} probes, {total} steps; {place}", flush=True)
        options = {"tensorboard": False, "wandb_project": "", "active": first}
        with open_writers(folder, resume_step=checkpoints.latest, **options) as writers:
            try:
                return train(state, _training(probed, bank, total, batches, checkpoints, writers, folder)), bank
            finally:
                checkpoints.wait()


def make_batches(probed: ProbedEncoder, source: Source) -> TrainingBatches:
    """Training images by step."""
    settings = probed.settings
    return TrainingBatches(
        source,
        probed.training_transform,
        batch_size=settings.trained.batch_size,
        seed=settings.trained.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        on_corrupt=settings.data.on_corrupt,
        num_threads=settings.efficiency.loader_threads or None,
    )


def _first_state(create: Callable[[], TrainState], checkpoints: Checkpoints, mesh: Mesh) -> TrainState:
    """The last checkpoint, or fresh heads, the same on every device."""
    if checkpoints.latest is None:
        return jax.jit(create, out_shardings=replicated(mesh))()
    place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated(mesh))
    return checkpoints.restore(jax.tree.map(place, jax.eval_shape(create)))


def _training(
    probed: ProbedEncoder,
    bank: ProbeBank,
    total: int,
    batches: TrainingBatches,
    checkpoints: Checkpoints,
    writers: Writers,
    folder: Path,
) -> Training:
    settings = probed.settings
    step = jax.jit(bank.step, donate_argnums=0, out_shardings=replicated(probed.mesh))

    def write(number: int, values: Values) -> None:
        writers.write(number, values | {"data/corrupt": float(len(batches.corrupt))})
        writers.flush()

    return Training(
        total_steps=total,
        step=lambda state, batch: step(state, batch["inputs"], batch["label"]),
        batches=input_batches(probed, batches, folder),
        describe_batch=lambda number: f"images {batches.indices(number).tolist()[:NAMED_IMAGES]}",
        save=lambda number, state, values: checkpoints.save(number, state, metrics=values),
        last_good=lambda number: "no probe is finite",
        write=write,
        throughput=Throughput(
            flops_per_image=encoder_flops(probed.model.encoder_config),
            batch_size=settings.trained.batch_size,
            device_count=jax.device_count(),
            peak_flops=device_peak(jax.local_devices()[0], settings.efficiency.dtype).flops,
        ),
        log_every=settings.run.log_every,
        save_every=settings.run.checkpoint_every,
        active=jax.process_index() == 0,
    )


def input_batches(
    probed: ProbedEncoder, batches: TrainingBatches, folder: Path
) -> Callable[[int, int], Generator[dict[str, Any]]]:
    """`(start, stop)` to the inputs and labels of these steps: encoded on the way, or stored before.

    They are stored where images are not augmented and all poolings are fixed, which encodes every image once.
    """
    trained, mesh = probed.settings.trained, probed.mesh

    def encoded(start: int, stop: int) -> Generator[dict[str, Any]]:
        for number, batch in enumerate(batches.iterate(start, stop), start):
            placed = global_batch(batch, mesh)
            key = jax.random.fold_in(jax.random.key(trained.seed), number) if trained.compat_drop_path else None
            yield {"inputs": probed.encode(placed["image"], key), "label": placed["label"]}

    if trained.augment or trained.compat_drop_path or len(probed.fixed) < len(probed.readings):
        return encoded
    stored = extract(probed, batches.source, folder)
    if len(stored["label"]) < len(batches.source):  # corrupt images have no features
        return encoded

    def remembered(start: int, stop: int) -> Generator[dict[str, Any]]:
        for number in range(start, stop):
            rows = np.split(batches.indices(number), batches.process_count)[batches.process_index]
            placed = global_batch({name: values[rows] for name, values in stored.items()}, mesh)
            label = placed.pop("label")
            yield {"inputs": {"pooled": placed, "tokens": {}}, "label": label}

    return remembered


def count_correct(
    probed: ProbedEncoder, bank: ProbeBank, state: TrainState, source: Source
) -> tuple[dict[str, np.ndarray], int]:
    """Images that every probe gets right, by reading, and the number of images: every one exactly once."""
    count = jax.jit(
        lambda state, batch: (
            batch["valid"].sum(),
            bank.correct(state, batch["inputs"], batch["label"], batch["valid"]),
        ),
        out_shardings=replicated(probed.mesh),
    )
    sums: Any = None
    for batch in probed.evaluation_batches(source):  # added up on the devices, which the host does not wait for
        found = count(state, batch)
        sums = found if sums is None else jax.tree.map(jnp.add, sums, found)
    total, right = jax.device_get(sums)
    return right, int(total)
