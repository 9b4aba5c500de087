"""Pre-training: from settings to a workdir with checkpoints, metrics, figures and a report."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
import pandas as pd

from mim_jax.data.pipeline import TrainingBatches
from mim_jax.data.sources import Source
from mim_jax.errors import InputError
from mim_jax.experiments import plan
from mim_jax.experiments.attention_evaluation import attention_table, watched_statistics
from mim_jax.experiments.dry_run import describe_run
from mim_jax.experiments.evaluation import FrozenFeatures, knn_of, probe
from mim_jax.experiments.learner import Learner
from mim_jax.experiments.model_directory import write_model_json
from mim_jax.experiments.objectives import make_objective
from mim_jax.experiments.optimization import make_schedule
from mim_jax.experiments.panels import PanelWriter
from mim_jax.experiments.report import RunReport, write_run_report
from mim_jax.experiments.run_images import check_images, open_test_source
from mim_jax.experiments.settings import Settings
from mim_jax.experiments.workdir import open_workdir
from mim_jax.files import write_atomically
from mim_jax.models.build import Parameters
from mim_jax.probing.table import save_table
from mim_jax.probing.text import text_by_labels
from mim_jax.training.checkpoints import Checkpoints
from mim_jax.training.loop import Every, Interrupted, Profile, Training, Values, train
from mim_jax.training.metrics import Writers, open_writers
from mim_jax.training.sharding import check_batch_size, global_batch, imagined_mesh, make_mesh
from mim_jax.training.state import TrainState
from mim_jax.training.throughput import Throughput, device_peak

NAMED_IMAGES = 16
"""How many images of a bad batch an error message names."""


def run(settings: Settings, workdir: Path) -> None:
    """Pre-trains, from the last checkpoint in `workdir` if there is one; then evaluates and reports."""
    efficiency = settings.efficiency
    axes = (efficiency.mesh_data, efficiency.mesh_fsdp, efficiency.mesh_tensor)
    imagined = settings.run.dry_run and efficiency.mesh_data > 0
    mesh = imagined_mesh(*axes) if imagined else make_mesh(*axes)
    check_batch_size(settings.optimization.batch_size, mesh, efficiency.accumulation)
    objective, preprocessing = make_objective(settings), plan.make_preprocessing(settings)
    if settings.run.dry_run:
        examples = settings.data.train_examples or len(plan.open_training_source(settings))
        learner = Learner(settings, objective, preprocessing, make_schedule(settings, examples), mesh)
        print(describe_run(learner))
        return
    source = plan.open_training_source(settings)
    test = open_test_source(settings, source)
    learner = Learner(settings, objective, preprocessing, make_schedule(settings, len(source)), mesh)
    first = jax.process_index() == 0
    notes = check_images(settings, source, test)
    if first:
        print(*notes, sep="\n", end="\n" * bool(notes), flush=True)
    workdir = open_workdir(workdir, settings, active=first)
    if first:
        write_model_json(workdir, learner)
    state = pretrain(learner, source, test, workdir)
    evaluate(learner, source, test, trained_parameters(state), workdir)


def trained_parameters(state: TrainState) -> Any:
    """The parameters that are evaluated: the moving average where there is one."""
    return state.parameters if state.average is None else state.average


def pretrain(learner: Learner, source: Source, test: Source, workdir: Path) -> TrainState:
    """Trains to the last step; returns the final state."""
    settings, run_settings, first = learner.settings, learner.settings.run, jax.process_index() == 0
    batches = plan.make_batches(settings, source, jax.process_index(), jax.process_count())
    best = "evaluation/knn_accuracy" if settings.evaluation.knn_every else ""
    checkpoints = Checkpoints(
        workdir / "checkpoints",
        keep_last=run_settings.keep_last,
        keep_every=run_settings.keep_every,
        best_metric=best,
    )
    with checkpoints:
        state = learner.restore(checkpoints)
        start = int(state.step)
        if first:
            print(f"{workdir}: {'starts' if start == 0 else f'goes on from step {start}'}", flush=True)
        writers = open_writers(
            workdir,
            resume_step=checkpoints.latest,
            tensorboard=run_settings.tensorboard,
            wandb_project=run_settings.wandb_project,
            active=first,
        )
        with writers:
            try:
                return train(state, _training(learner, batches, test, source, checkpoints, writers, workdir))
            except Interrupted:
                checkpoints.wait()  # a save that fails on disk must be told instead of "it is saved"
                raise


def _training(
    learner: Learner,
    batches: TrainingBatches,
    test: Source,
    source: Source,
    checkpoints: Checkpoints,
    writers: Writers,
    workdir: Path,
) -> Training:
    settings, run_settings = learner.settings, learner.settings.run

    def device_batches(start: int, stop: int) -> Generator[dict[str, Any]]:
        for batch in batches.iterate(start, stop):
            yield global_batch(batch, learner.mesh)

    def write(step: int, values: Values) -> None:
        writers.write(step, values | {"data/corrupt": float(len(batches.corrupt))})
        writers.flush()

    profile = None
    if run_settings.profile_steps:
        first = run_settings.profile_start
        profile = Profile(workdir / "profile", first, first + run_settings.profile_steps - 1)
    return Training(
        total_steps=learner.schedule.total_steps,
        step=learner.make_step(),
        batches=device_batches,
        describe_batch=lambda step: _describe_batch(batches, step, workdir),
        save=lambda step, state, values: learner.save(checkpoints, step, state, values),
        last_good=lambda step: _last_good(checkpoints, step),
        write=write,
        throughput=Throughput(
            flops_per_image=learner.objective.flops_per_image(),
            batch_size=settings.optimization.batch_size,
            device_count=jax.device_count(),
            peak_flops=device_peak(jax.local_devices()[0], settings.efficiency.dtype).flops,
        ),
        log_every=run_settings.log_every,
        save_every=run_settings.checkpoint_every,
        extras=_extras(learner, source, test, writers, workdir),
        profile=profile,
        active=jax.process_index() == 0,
    )


def _last_good(checkpoints: Checkpoints, diverged: int) -> str:
    """The checkpoint to return to; one of the step just before holds the very parameters that diverged."""
    good = [step for step in checkpoints.steps() if step < diverged - 1]
    if not good:
        return "there is no checkpoint from before it"
    later = ", ".join(str(step) for step in checkpoints.steps() if step > good[-1])
    use = f" (to go on from it, move step {later} out of {checkpoints.folder})" if later else ""
    return f"the last good checkpoint is step {good[-1]}{use}"


def _extras(learner: Learner, source: Source, test: Source, writers: Writers, workdir: Path) -> list[Every]:
    """Pictures, the k-NN accuracy and statistics during training."""
    settings = learner.settings
    frozen = FrozenFeatures(learner, source, test)
    extras = []
    if settings.run.panel_every and settings.run.panel_images:
        panels = PanelWriter(learner, frozen, writers, workdir)
        extras.append(Every(settings.run.panel_every, lambda step, state: panels.write(step, state.parameters)))
    if settings.evaluation.knn_every:
        extras.append(
            Every(
                settings.evaluation.knn_every,
                lambda step, state: {"evaluation/knn_accuracy": knn_of(frozen, trained_parameters(state))},
            )
        )
    if settings.evaluation.statistics_every:
        extras.append(
            Every(
                settings.evaluation.statistics_every,
                lambda step, state: watched_statistics(frozen, trained_parameters(state)),
            )
        )
    return extras


def _describe_batch(batches: TrainingBatches, step: int, workdir: Path) -> str:
    """The images of a batch by index; a long list goes into a file."""
    indices = batches.indices(step).tolist()
    shown = ", ".join(map(str, indices[:NAMED_IMAGES]))
    if len(indices) <= NAMED_IMAGES:
        return f"images {shown}"
    path = workdir / "diverged_batch.json"
    write_atomically(path, json.dumps({"step": step + 1, "indices": indices}) + "\n")
    return f"images {shown}, ... (all {len(indices)} are listed in {path})"


def probes_or_none(frozen: FrozenFeatures, parameters: Parameters) -> pd.DataFrame | None:
    """The table of probes; None, and a line why, where the images turn out not to be fit for any: the run is over."""
    try:
        return probe(frozen, parameters)
    except InputError as error:
        print(f"no probes: {error}", flush=True)
        return None


def evaluate(learner: Learner, source: Source, test: Source, parameters: Parameters, workdir: Path) -> None:
    """Probes and attention statistics of the final encoder, as tables; then the report."""
    evaluation = learner.settings.evaluation
    frozen = FrozenFeatures(learner, source, test)
    probes = probes_or_none(frozen, parameters) if evaluation.probe else None
    attention = attention_table(frozen, parameters) if evaluation.attention else None
    if jax.process_index() != 0:
        return
    if probes is not None:
        save_table(probes, workdir)
        print(text_by_labels(probes), flush=True)
    if attention is not None:
        write_atomically(workdir / "attention.csv", attention.to_csv(index=False))
    path = write_run_report(RunReport(learner, workdir, probes, attention))
    print(f"report: {path}", flush=True)
