"""What of a run can be told at once: paths that lead nowhere, data without its splits, a workdir that can be none.

Nothing here imports JAX, reads an array or an image, or writes.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from mim_jax.data.listing import subfolders
from mim_jax.data.sources import check_source
from mim_jax.data.splits import EVALUATION, TRAINING
from mim_jax.errors import InputError
from mim_jax.experiments import analyze_settings, probe_settings, settings
from mim_jax.experiments.analyze_settings import AnalyzeSettings
from mim_jax.experiments.places import RANDOM, split_reading
from mim_jax.experiments.probe_settings import ProbeSettings
from mim_jax.experiments.settings import Settings
from mim_jax.experiments.shared_settings import EvaluationImages
from mim_jax.experiments.workdir import check_workdir
from mim_jax.paths import local_path
from mim_jax.weights.checking import check_weights
from mim_jax.weights.options import parse_statements

AnySettings = Settings | ProbeSettings | AnalyzeSettings


def check_run(resolved: AnySettings, workdir: Path) -> None:
    """Raises InputError for a run that cannot be, as far as this is told without JAX."""
    for kind, check in CHECKS.items():
        if isinstance(resolved, kind):
            check(resolved, workdir)


def _check_pretraining(resolved: Settings, workdir: Path) -> None:
    data, evaluation, dry_run = resolved.data, resolved.evaluation, resolved.run.dry_run
    probes = evaluation.probe or evaluation.knn_every > 0
    splits = (data.train_split, data.test_split) if probes else (data.train_split,)
    if not (dry_run and data.train_examples):
        labelled = probes or resolved.method.name == "supervised"
        check_source(data.source, splits, data.data_dir, needs_labels=labelled)
    if not dry_run:
        _check_apart(workdir, {}, data)
        check_workdir(workdir, resolved, settings.NUMBERS)


def _check_probing(resolved: ProbeSettings, workdir: Path) -> None:
    oracle = {"readings.oracle": resolved.readings.oracle} if resolved.readings.oracle else {}
    _check_encoders(resolved.encoders | oracle, resolved.stated)
    data = resolved.data
    check_source(data.source, (data.train_split, data.test_split), data.data_dir, needs_labels=True)
    _check_apart(workdir, resolved.encoders | oracle, data)
    check_workdir(workdir, resolved, probe_settings.NUMBERS)


def _check_analysis(resolved: AnalyzeSettings, workdir: Path) -> None:
    _check_encoders(resolved.encoders, resolved.stated)
    data = resolved.data
    check_source(data.source, (data.test_split,), data.data_dir)
    for other in resolved.run.merge:
        if not local_path(other).is_dir():
            raise InputError(f"config.run.merge names {other}, and there is no such folder; give the workdir of a run")
    _check_apart(workdir, resolved.encoders, data)
    check_workdir(workdir, resolved, analyze_settings.NUMBERS)


CHECKS: dict[type, Callable[..., None]] = {
    Settings: _check_pretraining,
    ProbeSettings: _check_probing,
    AnalyzeSettings: _check_analysis,
}


def _check_encoders(encoders: Mapping[str, str], stated: Mapping[str, object]) -> None:
    """Raises InputError, naming the encoder, for one whose weights are not there or cannot be opened."""
    for name, where in encoders.items():
        try:
            check_weights(local_path(where.removeprefix(RANDOM)))
            parse_statements(str(stated.get(name, "")).split())
        except InputError as error:
            raise InputError(f"encoder '{name}': {error}") from error


def _check_apart(workdir: Path, encoders: Mapping[str, str], data: EvaluationImages) -> None:
    """Raises InputError if the run would write among the weights or the images that it reads."""
    real = workdir.resolve()
    for name, where in encoders.items():
        if local_path(where.removeprefix(RANDOM)).resolve() == real:
            raise InputError(f"the workdir {workdir} is that of the encoder '{name}'; use another --workdir")
    images = local_path(split_reading(data.source)[1] or ".").resolve()
    if data.source == "digits" or not images.is_dir() or not real.is_relative_to(images):
        return
    splits = [name for name in subfolders(images) if name.lower() in TRAINING + EVALUATION]
    first = next(iter(real.relative_to(images).parts), None)
    if not splits or first is None or first in splits:
        raise InputError(f"the workdir {workdir} lies among the images of {data.source}; use another --workdir")
