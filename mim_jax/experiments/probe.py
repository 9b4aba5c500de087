"""Probing: from settings to a table of what frozen encoders know, read in every way that was asked for."""

import dataclasses
import time
from pathlib import Path

import jax
import pandas as pd

from mim_jax.analysis.probe_figures import PoolingPictures
from mim_jax.data.sources import Source, open_source
from mim_jax.data.subset import hold_out
from mim_jax.errors import InputError
from mim_jax.experiments.head_training import count_correct, train_heads
from mim_jax.experiments.placed_encoder import load_encoder
from mim_jax.experiments.probe_pictures import pooling_pictures
from mim_jax.experiments.probe_report import write_probe_report
from mim_jax.experiments.probe_settings import NUMBERS, ProbeSettings
from mim_jax.experiments.probed_encoder import ProbedEncoder
from mim_jax.experiments.stored_features import probe_stored_features
from mim_jax.experiments.workdir import open_workdir
from mim_jax.probing.selection import best_probe, wilson_interval
from mim_jax.probing.table import ProbeRow, probe_table, save_table, table_text
from mim_jax.training.sharding import check_batch_size, make_mesh
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
        return ProbeData(train, train, None, test)
    return ProbeData(train, *hold_out(train, settings.trained.held_out, settings.trained.seed), test)


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
