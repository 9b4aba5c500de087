"""Probing: from settings to a table of what frozen encoders know, read in every way that was asked for."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from mim_jax.analysis.probe_figures import PoolingPictures
from mim_jax.data.pipeline import TrainingBatches
from mim_jax.data.sources import Source, open_source
from mim_jax.data.subset import hold_out
from mim_jax.errors import InputError
from mim_jax.experiments.evaluation import check_labels, on_host
from mim_jax.experiments.probe_pictures import pooling_pictures
from mim_jax.experiments.probe_report import write_probe_report
from mim_jax.experiments.probe_settings import NUMBERS, ProbeSettings
from mim_jax.experiments.probed_encoder import ProbedEncoder, load_encoder
from mim_jax.experiments.stored_features import extract, probe_stored_features
from mim_jax.experiments.workdir import open_workdir
from mim_jax.models.flops import encoder_flops
from mim_jax.probing.bank import HeadOptions, ProbeBank
from mim_jax.probing.selection import best_probe, grid, wilson_interval
from mim_jax.probing.table import ProbeRow, probe_table, save_table, table_text
from mim_jax.training.checkpoints import Checkpoints
from mim_jax.training.loop import Training, Values, train
from mim_jax.training.metrics import open_writers
from mim_jax.training.schedules import linear_scaling, warmup_half_cosine
from mim_jax.training.sharding import check_batch_size, global_batch, make_mesh, replicated
from mim_jax.training.state import TrainState
from mim_jax.training.throughput import Throughput, device_peak


@dataclasses.dataclass(frozen=True)
class ProbeData:
    """The images of a probing run: to train on, held out of them to choose by, and to test on."""

    train: Source
    held_out: Source
    test: Source

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.train.class_names)


def run(settings: ProbeSettings, workdir: Path) -> pd.DataFrame:
    """Probes every encoder, going on where an earlier run in `workdir` stopped; writes tables, figures and a report."""
    efficiency = settings.efficiency
    mesh = make_mesh(efficiency.mesh_data, efficiency.mesh_fsdp, efficiency.mesh_tensor)
    check_batch_size(settings.trained.batch_size, mesh)
    data = open_data(settings)
    open_workdir(workdir, settings, NUMBERS, active=jax.process_index() == 0)
    oracle = load_encoder(settings.readings.oracle) if settings.readings.oracle else None
    rows: list[ProbeRow] = []
    pictures: dict[str, PoolingPictures] = {}
    for name, where in settings.encoders.items():
        stated = str(settings.stated.get(name, ""))
        try:
            probed = ProbedEncoder(name, load_encoder(where, stated, settings.trained.seed), settings, mesh, oracle)
            found, picture = probe_encoder(probed, data, workdir / "encoders" / name)
            rows += found
            pictures |= {name: picture} if picture is not None else {}
        except InputError as error:
            raise InputError(f"encoder '{name}': {error}") from error
    table = probe_table(rows)
    if jax.process_index() == 0:
        save_table(table, workdir)
        print(table_text(table), flush=True)
        print(f"report: {write_probe_report(settings, workdir, table, pictures)}", flush=True)
    return table


def open_data(settings: ProbeSettings) -> ProbeData:
    """The images; raises InputError if labels are missing or there is only one class."""
    data = settings.data
    train, test = (
        open_source(data.source, split, data_dir=data.data_dir) for split in (data.train_split, data.test_split)
    )
    check_labels(train, "training")
    check_labels(test, "test")
    if len(train.class_names) < 2:
        raise InputError(f"{data.source} has one class only; a probe needs at least two")
    if len(settings.trained.learning_rates) * len(settings.trained.weight_decays) == 1:
        return ProbeData(train, test, test)
    return ProbeData(*hold_out(train, settings.trained.held_out, settings.trained.seed), test)


def probe_encoder(
    probed: ProbedEncoder, data: ProbeData, folder: Path
) -> tuple[list[ProbeRow], PoolingPictures | None]:
    """All protocols on one encoder, and where its poolings look."""
    protocols, rows = probed.settings.protocols, []
    state, chosen = None, {}
    if "trained" in protocols:
        found, state, chosen = probe_by_training(probed, data, folder)
        rows += found
    stored = tuple(protocol for protocol in protocols if protocol != "trained")
    if stored and probed.fixed:
        rows += probe_stored_features(probed, data.train, data.test, stored, folder)
    if not rows:
        raise InputError("no pooling fits the protocols: k-NN and logistic need one without parameters, such as 'mean'")
    return rows, pooling_pictures(probed, data.test, state, chosen)


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


def probe_by_training(
    probed: ProbedEncoder, data: ProbeData, folder: Path
) -> tuple[list[ProbeRow], TrainState, dict[str, int]]:
    """Trains all heads of an encoder in one pass, chooses by held-out images, tests once.

    Returns rows, the trained heads, and the number of the chosen one of every reading.
    """
    started = time.monotonic()
    state, bank = train_heads(probed, data, folder)
    several = bank.width > 1
    held_out = count_correct(probed, bank, state, data.held_out)[0] if several else {}
    test, total = count_correct(probed, bank, state, data.test)
    sizes, seconds = bank.parameter_counts(state), time.monotonic() - started
    rows, picked = [], {}
    for reading in bank.readings:
        name = str(reading)
        chosen = picked[name] = best_probe(held_out[name]) if several else 0
        correct = int(test[name][chosen])
        low, high = wilson_interval(correct, total)
        rows.append(
            ProbeRow(
                encoder=probed.name,
                layer=reading.layer,
                pooling=reading.pooling,
                final_norm=reading.final_norm,
                protocol="trained",
                accuracy=correct / total,
                low=low,
                high=high,
                images=total,
                parameters=sizes[name],
                seconds=seconds,
                details={
                    "optimizer": bank.optimizer,
                    "learning_rate": bank.learning_rates[chosen],
                    "weight_decay": bank.weight_decays[chosen],
                },
            )
        )
    return rows, state, picked


def train_heads(probed: ProbedEncoder, data: ProbeData, folder: Path) -> tuple[TrainState, ProbeBank]:
    """Trains the heads, from the last checkpoint in `folder` if there is one."""
    settings, mesh = probed.settings, probed.mesh
    batches = TrainingBatches(
        data.train,
        probed.training_transform,
        batch_size=settings.trained.batch_size,
        seed=settings.trained.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        on_corrupt=settings.data.on_corrupt,
        num_threads=settings.efficiency.loader_threads or None,
    )
    bank, total = make_bank(probed, data.classes, batches.steps_per_epoch)
    create = functools.partial(bank.initial_state, settings.trained.seed, probed.input_shapes)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated(mesh)), jax.eval_shape(create)
    )
    step = jax.jit(bank.step, donate_argnums=0, out_shardings=replicated(mesh))

    device_batches = input_batches(probed, batches, folder)
    checkpoints = Checkpoints(folder / "checkpoints", keep_last=settings.run.keep_last)
    first = jax.process_index() == 0
    with checkpoints:
        restored = checkpoints.latest is not None
        state = checkpoints.restore(shapes) if restored else jax.jit(create, out_shardings=replicated(mesh))()
        if first:
            place = f"goes on from step {int(state.step)}" if restored else "starts"
            count = len(bank.readings) * bank.width
            print(f"{probed.name}: {count} probes, {total} steps; {place}", flush=True)
        writers = open_writers(
            folder, resume_step=checkpoints.latest, tensorboard=False, wandb_project="", active=first
        )
        with writers:

            def write(number: int, values: Values) -> None:
                writers.write(number, values | {"data/corrupt": float(len(batches.corrupt))})
                writers.flush()

            training = Training(
                total_steps=total,
                step=lambda state, batch: step(state, batch["inputs"], batch["label"]),
                batches=device_batches,
                describe_batch=lambda number: f"images {batches.indices(number).tolist()[:16]}",
                save=lambda number, state, values: checkpoints.save(number, state, metrics=values),
                last_good=lambda number: "lower config.trained.learning_rates",
                write=write,
                throughput=Throughput(
                    flops_per_image=encoder_flops(probed.model.encoder_config),
                    batch_size=settings.trained.batch_size,
                    device_count=jax.device_count(),
                    peak_flops=device_peak(jax.local_devices()[0], settings.efficiency.dtype).flops,
                ),
                log_every=settings.run.log_every,
                save_every=settings.run.checkpoint_every,
                active=first,
            )
            try:
                return train(state, training), bank
            finally:
                checkpoints.wait()


def input_batches(
    probed: ProbedEncoder, batches: TrainingBatches, folder: Path
) -> Callable[[int, int], Iterator[dict[str, Any]]]:
    """`(start, stop)` to the inputs and labels of these steps: encoded on the way, or stored before.

    They are stored where images are not augmented and all poolings are fixed, which encodes every image once.
    """
    trained, mesh = probed.settings.trained, probed.mesh

    def encoded(start: int, stop: int) -> Iterator[dict[str, Any]]:
        for number, batch in enumerate(batches.iterate(start, stop), start):
            placed = global_batch(batch, mesh)
            key = jax.random.fold_in(jax.random.key(trained.seed), number) if trained.compat_drop_path else None
            yield {"inputs": probed.encode(placed["image"], key), "label": placed["label"]}

    if trained.augment or trained.compat_drop_path or len(probed.fixed) < len(probed.readings):
        return encoded
    stored = extract(probed, batches.source, folder)
    if len(stored["label"]) < len(batches.source):  # corrupt images have no features
        return encoded

    def remembered(start: int, stop: int) -> Iterator[dict[str, Any]]:
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
    count = jax.jit(bank.correct, out_shardings=replicated(probed.mesh))
    total, right = 0, {str(reading): np.zeros(bank.width, np.int64) for reading in bank.readings}
    for batch in probed.evaluation_batches(source):
        total += int(on_host(batch["valid"]).sum())
        for name, found in count(state, batch["inputs"], batch["label"], batch["valid"]).items():
            right[name] = right[name] + np.asarray(found)
    return right, total
