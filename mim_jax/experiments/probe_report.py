"""The report of a probing run, from its table and pictures."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib.figure
import pandas as pd

from mim_jax.analysis.probe_figures import (
    PoolingPictures,
    accuracy_by_labels,
    accuracy_by_layer,
    accuracy_by_pooling,
    at_last_layer,
    pooling_pictures,
    reading_names,
)
from mim_jax.analysis.report import Configuration, Figure, Part, Section, Table, write_report
from mim_jax.analysis.style import save_figure
from mim_jax.experiments.probe_settings import ProbeSettings
from mim_jax.probing.logistic import HELD_OUT_FRACTION
from mim_jax.probing.text import TITLES

ACCURACY = (
    "Top-1 accuracy on {images} test images; intervals are 95% Wilson intervals over test images: how far another test "
    "set of this size would scatter, not another training."
)
BY_POOLING = (
    "At the last block that was read of every encoder, with all labels. Line: 95% interval. Dashed: the class token. "
    "Diamond: the block with the highest test accuracy (its number in brackets), where that is not the last; the test "
    "images chose it, so it is no unbiased estimate."
)
BY_LAYER = "Over the blocks, with all labels; blocks count from 1. Bands are 95% intervals."
BY_LABELS = (
    "At the last block that was read, over the number of labelled training images of every class: mean over draws, the "
    "same draws for every encoder, and its 95% interval over draws; for all labels, over test images."
)
PICTURES = (
    "What poolings take of every place in test images. Each map is scaled to its own largest weight, so brightness "
    "compares places in a map, not maps."
)
IN_PERCENT = "Accuracy in percent at the last block that was read, with all labels."
ALL_ROWS = (
    "All accuracies, as shares, with their 95% intervals (low, high); no labels per class means all. Parameters are "
    "those that were trained. The same is in probes.csv."
)


def write_probe_report(
    settings: ProbeSettings, workdir: Path, table: pd.DataFrame, pictures: Mapping[str, PoolingPictures]
) -> Path:
    """Writes `report.html`, and its figures as PNG and SVG under `figures`; returns the path of the report.

    `table` is that of `probing.table.probe_table`; `pictures`, by encoder, may be empty.
    """
    figures = workdir / "figures"
    sections = [
        Section("Results", [Table(_grid(table), IN_PERCENT, digits=3)]),
        *(_protocol(settings, figures, table, protocol) for protocol in table["protocol"].unique()),
        *_pictures(figures, pictures),
        Section("All numbers", [Table(table, ALL_ROWS)]),
        Section("Settings", [Configuration(dataclasses.asdict(settings), "Settings")]),
    ]
    title = f"Frozen encoders on {settings.data.source}"
    return write_report(workdir / "report.html", title=title, sections=sections, summary=_summary(table))


def _summary(table: pd.DataFrame) -> str:
    """The result in a sentence."""
    protocol, last = table["protocol"].iloc[0], at_last_layer(table)
    rows = last[last["protocol"] == protocol]
    best = rows.loc[rows.groupby("encoder", sort=False)["accuracy"].idxmax()]
    shares = zip(best["encoder"], best["accuracy"], reading_names(best))
    shown = "; ".join(f"{encoder} {accuracy:.1%} by {pooling}" for encoder, accuracy, pooling in shares)
    return f"Highest test accuracy at the last block ({TITLES[protocol].lower()}): {shown}."


def _grid(table: pd.DataFrame) -> pd.DataFrame:
    """Protocols and poolings down, encoders across."""
    last = at_last_layer(table)
    last = last.assign(pooling=reading_names(last), accuracy=100 * last["accuracy"])
    cells = last.pivot_table("accuracy", ["protocol", "pooling"], "encoder", aggfunc="first", sort=False)
    return cells[list(last["encoder"].unique())].reset_index()


def _protocol(settings: ProbeSettings, figures: Path, table: pd.DataFrame, protocol: str) -> Section:
    """A protocol: how it reads, and every figure that there are rows for."""
    rows = table[table["protocol"] == protocol]
    few = rows["labels_per_class"].notna()
    drawings: dict[str, tuple[bool, Callable[..., matplotlib.figure.Figure], str]] = {
        "poolings": (not few.all(), accuracy_by_pooling, BY_POOLING),
        "layers": (rows[~few].groupby("encoder")["layer"].nunique().max() > 1, accuracy_by_layer, BY_LAYER),
        "labels": (few.any(), accuracy_by_labels, BY_LABELS),
    }
    parts: list[Part] = [f"{_DEFINITIONS[protocol](settings)} {ACCURACY.format(images=_images(rows))}"]
    for name, (wanted, draw, caption) in drawings.items():
        if wanted:
            _, svg = save_figure(draw(table, protocol), figures, f"{name}_{protocol}")
            parts.append(Figure(svg, caption))
    return Section(TITLES[protocol], parts)


def _images(rows: pd.DataFrame) -> str:
    return " or ".join(f"{images:,}" for images in rows["images"].unique())


def _trained(settings: ProbeSettings) -> str:
    trained = settings.trained
    text = (
        "A linear classifier, together with its pooling where that has parameters, trained by "
        f"{trained.optimizer.upper()} for {trained.epochs:g} epochs on tokens of the frozen encoder, "
        f"{'with' if trained.augment else 'without'} augmented images."
    )
    if len(trained.learning_rates) * len(trained.weight_decays) == 1:
        return f"{text} There was one learning rate and one weight decay, and nothing to choose."
    return (
        f"{text} Every reading's learning rate and weight decay are those with the best accuracy on "
        f"{trained.held_out:.0%} of the training images, held out of the training; the test images took part in no "
        "choice."
    )


def _nearest(settings: ProbeSettings) -> str:
    frozen = settings.frozen
    numbers = " or ".join(map(str, frozen.neighbours))
    text = (
        f"Vote of the {numbers} nearest training images in cosine similarity, weighted with temperature "
        f"{frozen.temperature:g}; with few labels, of no more neighbours than labels per class. Nothing was chosen."
    )
    return text + " Figures show the first number of neighbours." * (len(frozen.neighbours) > 1)


def _logistic(settings: ProbeSettings) -> str:
    return (
        "Multinomial logistic regression on stored features of images that were not augmented. The strength of its L2 "
        f"penalty is that with the best accuracy on {HELD_OUT_FRACTION:.0%} of the training images, held out of every "
        "class; then all were fitted. With few labels it is fixed. The test images took part in no choice."
    )


_DEFINITIONS = {"trained": _trained, "k-NN": _nearest, "logistic": _logistic}


def _pictures(figures: Path, pictures: Mapping[str, PoolingPictures]) -> list[Section]:
    parts = []
    for encoder, own in pictures.items():
        if own.maps:
            figure = pooling_pictures(own)
            save_figure(figure, figures, f"pictures_{encoder}")
            parts.append(Figure(figure, f"{encoder}. {PICTURES}"))
    return [Section("Where poolings look", parts)] if parts else []
