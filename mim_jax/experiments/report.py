"""The report of a run, from its tables, metrics and figures."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd

from mim_jax.analysis.definitions import STATISTICS
from mim_jax.analysis.figures import attention_dots, probe_chart, training_curves
from mim_jax.analysis.head_figures import divergence_dots
from mim_jax.analysis.report import Configuration, Figure, Section, Table, write_report
from mim_jax.analysis.result import layout_of
from mim_jax.analysis.style import save_figure
from mim_jax.experiments.learner import Learner
from mim_jax.models.build import family
from mim_jax.probing.text import TITLES, grid_by_labels
from mim_jax.training.metrics import read_metrics

METHODS = {"mae": "MAE", "simmim": "SimMIM", "lut": "LUT", "supervised": "Supervised training"}
"""What a title calls a method."""

LOSSES = {
    "mae": "Reconstruction loss on the removed patches",
    "simmim": "Absolute error on the masked pixels",
    "lut": "Reconstruction and contextualisation loss together",
    "supervised": "Cross-entropy with mixed and smoothed labels",
}
"""What the loss of a method is."""

DOTS = ("attention_distance", "attention_entropy")
"""Statistics that are drawn as a dot for every head."""

FAMILY_NAMES = {"vision_transformer": "vision transformer", "swin_transformer": "Swin transformer"}


@dataclasses.dataclass(frozen=True)
class RunReport:
    """What a report is made of; a table that was not asked for is None."""

    learner: Learner
    workdir: Path
    probes: pd.DataFrame | None
    attention: pd.DataFrame | None

    @property
    def figures(self) -> Path:
        """Where figures lie."""
        return self.workdir / "figures"


def write_run_report(run: RunReport) -> Path:
    """Writes `report.html` and the figures in it; returns its path."""
    records = read_metrics(run.workdir)
    settings = run.learner.settings
    sections = [
        *_probes(run),
        *_panels(run),
        *_attention(run),
        _training(run, records),
        _facts(run, records),
        Section("Configuration", [Configuration(dataclasses.asdict(settings))]),
    ]
    title = f"{METHODS[settings.method.name]} on {settings.data.source}"
    return write_report(run.workdir / "report.html", title=title, sections=sections, summary=_summary(run))


def _summary(run: RunReport) -> str:
    """The result in a sentence."""
    config, schedule = run.learner.objective.encoder_config, run.learner.schedule
    labels = run.learner.settings.method.name == "supervised"
    trained = "trained with labels" if labels else "pre-trained without labels"
    kind = FAMILY_NAMES[family(config)]
    text = f"A {kind} of {sum(config.depths)} blocks, {trained} for {schedule.total_steps:,} steps."
    if run.probes is None:
        return text
    whole = run.probes[run.probes["labels_per_class"].isna()]
    for protocol, rows in whole.groupby("protocol", sort=False):
        shares = ", ".join(f"{row.encoder} {row.accuracy:.1%}" for row in rows.itertuples())
        text += f" Test accuracy by {TITLES[protocol].lower()} with all labels: {shares}."
    return text


def _per_stage(numbers: int | tuple[int, ...]) -> str:
    return str(numbers) if isinstance(numbers, int) else "-".join(map(str, numbers))


def _facts(run: RunReport, records: list[dict[str, Any]]) -> Section:
    learner, config = run.learner, run.learner.objective.encoder_config
    last = next((record for record in reversed(records) if "speed/step_time" in record), {})
    facts = {
        "encoder": f"{_per_stage(config.depths)} blocks, width {config.width}, {_per_stage(config.num_heads)} heads, "
        f"{config.grid[0]}x{config.grid[1]} patches of {config.patch_size[0]}x{config.patch_size[1]} px",
        "steps": f"{learner.schedule.total_steps:,} of {learner.settings.optimization.batch_size} images",
        "work per image": f"{learner.objective.flops_per_image() / 1e9:.4g} GFLOP a training step, "
        "counted analytically on visible tokens",
    }
    if last:
        facts |= {
            "speed": f"{last['speed/step_time'] * 1e3:.1f} ms a step, {last['speed/images_per_second']:,.0f} images/s",
            "model FLOP/s": f"{last['speed/model_flops_per_second'] / 1e9:,.2f} GFLOP/s, "
            f"{last['speed/mfu']:.1%} of the peak (MFU)",
        }
    if records and records[-1].get("data/corrupt"):
        facts["corrupt images"] = f"{records[-1]['data/corrupt']:.0f} met and skipped; the log names them"
    return Section("Run", [Table(pd.DataFrame({"what": list(facts), "value": list(facts.values())}))])


def _training(run: RunReport, records: list[dict[str, Any]]) -> Section:
    figure = training_curves(records, losses=("train/loss",), learning_rate="train/learning_rate")
    save_figure(figure, run.figures, "training")
    parts = [Figure(figure, f"{LOSSES[run.learner.settings.method.name]}, and the learning rate, over steps.")]
    return Section("Training", parts)


def _panels(run: RunReport) -> list[Section]:
    panels = sorted(run.figures.glob("panels_*.png"))
    if not panels:
        return []
    caption = f"Columns: {', '.join(run.learner.objective.panel_titles)}."
    chosen = panels if len(panels) == 1 else [panels[0], panels[-1]]
    return [Section("Pictures", [Figure(path, caption) for path in chosen])]


def _probes(run: RunReport) -> list[Section]:
    if run.probes is None:
        return []
    figure = probe_chart(run.probes)
    save_figure(figure, run.figures, "probes")
    caption = (
        "Top-1 test accuracy of frozen features (mean patch token of the last layer; raw pixels as they are). With few "
        "labels: mean and standard deviation over draws, the same draws for every encoder."
    )
    grid = Table(grid_by_labels(run.probes), "The same in percent. Every number with its settings is in probes.csv.")
    return [Section("What the frozen encoder knows", [Figure(figure, caption), grid])]


def _attention(run: RunReport) -> list[Section]:
    if run.attention is None:
        return []
    config = run.learner.objective.encoder_config
    names = run.attention["encoder"].unique()
    uniform: dict[str, Any] = {name: dict.fromkeys(names, layout_of(config).uniform(name)) for name in DOTS}
    figures = {name: attention_dots(run.attention, name, uniform=uniform[name]) for name in DOTS}
    figures["kl_between_heads"] = divergence_dots(run.attention)
    parts: list[Any] = []
    for statistic, figure in figures.items():
        save_figure(figure, run.figures, statistic)
        described = STATISTICS[statistic]
        parts.append(
            Figure(figure, f"{statistic.replace('_', ' ').capitalize()} ({described.unit}): {described.definition}.")
        )
    layers = run.attention[run.attention["head"].isna()].drop(columns=["head", "definition"])
    parts.append(Table(layers, "Statistics by encoder and layer; single heads and definitions are in attention.csv."))
    return [Section("How it attends", parts)]
