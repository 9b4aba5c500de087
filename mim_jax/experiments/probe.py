"""Probing: from settings to a table of what frozen encoders know, read in every way that was asked for."""

import dataclasses
import time
from pathlib import Path

import jax
import pandas as pd

from mim_jax.analysis.probe_figures import PoolingPictures
from mim_jax.data.labels import with_classes
from mim_jax.data.sources import Source, open_source
from mim_jax.data.subset import hold_out, random_subset
from mim_jax.errors import InputError
from mim_jax.experiments.head_training import count_correct, train_heads
from mim_jax.experiments.labels import check_classes, check_labels, labels_of, makeable_shots
from mim_jax.experiments.placed_encoder import load_encoder
from mim_jax.experiments.probe_pictures import pooling_pictures
from mim_jax.experiments.probe_report import write_probe_report
from mim_jax.experiments.probe_settings import NUMBERS, Frozen, ProbeSettings
from mim_jax.experiments.probed_encoder import ProbedEncoder
from mim_jax.experiments.read_keys import PROBING, unread_sizes
from mim_jax.experiments.stored_features import probe_stored_features
from mim_jax.experiments.workdir import open_workdir
from mim_jax.probing.selection import best_probe, wilson_interval
from mim_jax.probing.table import ProbeRow, probe_table, save_table
from mim_jax.probing.text import text_by_reading
from mim_jax.training.sharding import AnyMesh, check_batch_size, make_mesh
from mim_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class ProbeData:
    """The images of a probing run.

    Attributes:
        labelled: all training images.
        train: those that heads are trained on.
        held_out: those by which learning rate and decay are chosen; None where there is nothing to choose.
        test: those that are tested on, once.
    """

    labelled: Source
    train: Source
    held_out: Source | None
    test: Source


def run(settings: ProbeSettings, workdir: Path) -> pd.DataFrame:
    """Probes every encoder, going on where an earlier run in `workdir` stopped; writes tables, figures and a report."""
    efficiency = settings.efficiency
    mesh = make_mesh(efficiency.mesh_data, efficiency.mesh_fsdp, efficiency.mesh_tensor)
    check_batch_size(settings.trained.batch_size, mesh)
    data, first = open_data(settings), jax.process_index() == 0
    fitting, notes = fit_images(settings, data, mesh)
    workdir = open_workdir(workdir, settings, NUMBERS, active=first)
    if first:
        print(*notes, sep="\n", end="\n" * bool(notes), flush=True)
    settings = fitting
    oracle = load_encoder(settings.readings.oracle) if settings.readings.oracle else None
    rows: list[ProbeRow] = []
    pictures: dict[str, PoolingPictures] = {}
    for name, where in settings.encoders.items():
        stated = str(settings.stated.get(name, ""))
        try:
            probed = ProbedEncoder(name, load_encoder(where, stated, settings.trained.seed), settings, mesh, oracle)
            if first and probed.notes:
                print(f"{name}: {'; '.join(probed.notes)}", flush=True)
            found, picture = probe_encoder(probed, data, workdir / "encoders" / name)
            rows += found
            pictures |= {name: picture} if picture is not None else {}
        except InputError as error:
            raise InputError(f"encoder '{name}': {error}") from error
    table = probe_table(rows)
    if first:
        save_table(table, workdir)
        print(text_by_reading(table), flush=True)
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
    test = with_classes(test, train.class_names, f"the split '{data.test_split}' of {data.source}")
    if len(train.class_names) < 2:
        raise InputError(f"{data.source} has one class only; a probe needs at least two")
    if len(settings.trained.learning_rates) * len(settings.trained.weight_decays) == 1:
        return ProbeData(train, train, None, test)
    return ProbeData(train, *hold_out(train, settings.trained.held_out, settings.trained.seed), test)


def fit_images(settings: ProbeSettings, data: ProbeData, mesh: AnyMesh) -> tuple[ProbeSettings, list[str]]:
    """The settings as the images allow them, and lines about what that changes; all before an encoder is read.

    Batches are no larger than the training set, and there are no more neighbours than images unless so many were asked
    for. Raises InputError for more neighbours or labels a class than there are, and for a class without training image.
    """
    check_classes(data.labelled, data.test)
    unread = unread_sizes(settings, PROBING)
    settings, smaller = fit_batch(settings, len(data.train), mesh)
    notes = [note for note in (unread, smaller) if note]
    if not {"k-NN", "logistic"} & set(settings.protocols):
        return settings, notes
    frozen = settings.frozen
    stored = random_subset(data.labelled, frozen.train_images, settings.trained.seed)
    check_classes(stored, data.test)
    labels, count = labels_of(stored), len(stored)
    if labels is not None:
        _, lost = makeable_shots(tuple(number for number in frozen.shots if number >= 1), labels, stored.class_names)
        if lost:
            raise InputError(f"{lost}; lower config.frozen.shots (fewer than {max(frozen.shots):g} shots) or give more")
    if "k-NN" in settings.protocols and max(frozen.neighbours) > count:
        if frozen.neighbours != Frozen().neighbours:
            raise InputError(
                f"{max(frozen.neighbours)} neighbours exceed the {count} training images; lower "
                "config.frozen.neighbours"
            )
        notes.append(f"k-NN takes all {count} training images as neighbours, fewer than {max(frozen.neighbours)}")
        settings = dataclasses.replace(settings, frozen=dataclasses.replace(frozen, neighbours=(count,)))
    return settings, notes


def fit_batch(settings: ProbeSettings, images: int, mesh: AnyMesh) -> tuple[ProbeSettings, str]:
    """Batches of at most all training images, which the learning rates follow; with a line if that changes them."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    most, wanted = images // shards * shards, settings.trained.batch_size
    if "trained" not in settings.protocols or wanted <= most or not most:
        return settings, ""
    note = f"heads are trained in batches of {most}, not {wanted}: there are {images} training images"
    return dataclasses.replace(settings, trained=dataclasses.replace(settings.trained, batch_size=most)), note


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
        rows += probe_stored_features(probed, data.labelled, data.test, stored, folder)
    if not rows:
        raise InputError("no pooling fits the protocols: k-NN and logistic need one without parameters, such as 'mean'")
    return rows, pooling_pictures(probed, data.test, state, chosen)


def probe_by_training(
    probed: ProbedEncoder, data: ProbeData, folder: Path
) -> tuple[list[ProbeRow], TrainState, dict[str, int]]:
    """Trains all heads of an encoder in one pass, chooses by held-out images, tests once.

    Returns rows, the trained heads, and the number of the chosen one of every reading.
    """
    started = time.monotonic()
    state, bank = train_heads(probed, data.train, folder)
    held_out = count_correct(probed, bank, state, data.held_out)[0] if data.held_out is not None else {}
    test, total = count_correct(probed, bank, state, data.test)
    sizes, seconds = bank.parameter_counts(state), time.monotonic() - started
    rows, picked = [], {}
    for reading in bank.readings:
        name = str(reading)
        chosen = picked[name] = best_probe(held_out[name]) if held_out else 0
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
