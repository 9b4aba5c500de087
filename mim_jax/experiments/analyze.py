"""Analysis: from settings to tables, figures and a report of how encoders attend and what their features are like."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from mim_jax.analysis.attention_sections import compat_table
from mim_jax.analysis.collecting import Features
from mim_jax.analysis.report import Configuration, Section, write_report
from mim_jax.analysis.representations import spectrum_rows
from mim_jax.analysis.result import Analysis, layout_of, save_matrices
from mim_jax.analysis.section_parts import Options
from mim_jax.analysis.sections import analysis_sections
from mim_jax.analysis.style import save_figure
from mim_jax.analysis.tables import arrays_of, as_table, statistics_table
from mim_jax.data.sources import Source, open_source
from mim_jax.data.subset import Subset, random_subset
from mim_jax.errors import InputError
from mim_jax.experiments.analyze_pictures import encoder_pictures
from mim_jax.experiments.analyze_settings import NUMBERS, AnalyzeSettings
from mim_jax.experiments.analyze_tokens import lidar_rows, token_similarity
from mim_jax.experiments.placed_encoder import PlacedEncoder, load_encoder
from mim_jax.experiments.statistics_pass import INDEX, StatisticsPass
from mim_jax.experiments.workdir import open_workdir
from mim_jax.models.encoder import EncoderConfig
from mim_jax.paths import local_path
from mim_jax.training.sharding import make_mesh


def run(settings: AnalyzeSettings, workdir: Path) -> Analysis:
    """Analyses every encoder, going on where an earlier run in `workdir` stopped; writes tables, figures, a report."""
    efficiency = settings.efficiency
    mesh = make_mesh(efficiency.mesh_data, efficiency.mesh_fsdp, efficiency.mesh_tensor)
    source = open_images(settings)
    active = jax.process_index() == 0
    workdir = open_workdir(workdir, settings, NUMBERS, active=active)
    found: Analysis | None = None
    placed: dict[str, PlacedEncoder] = {}
    for name, where in settings.encoders.items():
        try:
            model = load_encoder(where, str(settings.stated.get(name, "")), settings.run.seed)
            own = PlacedEncoder(name, model, mesh, settings.data, efficiency, settings.run.batch_size)
            if active:
                print(f"{name}: {describe_encoder(model.encoder_config)}; {len(source):,} images", flush=True)
            analysed = analyze_encoder(own, settings, source, workdir)
        except (InputError, ValueError) as error:
            raise InputError(f"encoder '{name}': {error}") from error
        placed[name] = own
        found = analysed if found is None else found.compare(analysed)
    assert found is not None  # there is an encoder at least
    found = dataclasses.replace(found, token_cka=token_similarity(placed, settings, source))
    if active:
        write_results(found, settings, workdir)
    return found


def open_images(settings: AnalyzeSettings) -> Source:
    """The images of this run: a fixed random part of the test images, or this run's share of them."""
    data, wanted = settings.data, settings.statistics.images
    source = random_subset(open_source(data.source, data.test_split, data_dir=data.data_dir), wanted, settings.run.seed)
    first, step = settings.run.part
    part = source if step == 1 else Subset(source, np.arange(first, len(source), step))
    if len(part) < 2:
        raise InputError(f"{data.source} gives {len(part)} images to this run; an interval needs two at least")
    return part


def describe_encoder(config: EncoderConfig) -> str:
    """What is analysed, in a few words."""
    height, width = config.image_size
    rows, columns = config.grid
    return (
        f"{sum(config.depths)} blocks, {height}x{width} px, {rows}x{columns} patches, {config.prefix} prefix tokens, "
        "no mask"
    )


def analyze_encoder(placed: PlacedEncoder, settings: AnalyzeSettings, source: Source, workdir: Path) -> Analysis:
    """All statistics of one encoder that need no other one."""
    name, config = placed.name, placed.model.encoder_config
    merged = tuple(local_path(other) / "encoders" / name for other in settings.run.merge)
    statistics = StatisticsPass(placed, settings, source, workdir / "encoders" / name, merged)
    moments, features = statistics.run()
    index = features.pop(INDEX, [np.zeros(0, int)])[0]
    tables = [statistics_table(name, moments, config.depths)]
    arrays = dict(arrays_of(moments, config.depths))
    if not settings.statistics.names or "top_singular_share" in settings.statistics.names:
        spectra = statistics.spectra()
        if spectra is not None:
            table = statistics_table(name, spectra, config.depths)
            tables.append(table[table["statistic"] == "top_singular_share"])
            own = arrays_of(spectra, config.depths)
            arrays |= {key: own[key] for key in ("top_singular_shares", "token_log_spectrum")}
    tables.append(_rank_table(name, features))
    tables.append(as_table(lidar_rows(placed, settings, source)))
    pictures = encoder_pictures(placed, settings, source)
    return Analysis(
        pd.concat([table for table in tables if len(table)], ignore_index=True),
        {name: layout_of(config)},
        {name: arrays},
        {name: features} if features else {},
        np.zeros(0, str) if merged else labels_of(source, index),
        pictures={name: pictures} if pictures is not None else {},
    )


def _rank_table(name: str, features: Features) -> pd.DataFrame:
    return as_table([row for kind, layers in features.items() for row in spectrum_rows(name, kind, layers)])


def labels_of(source: Source, index: np.ndarray) -> np.ndarray:
    """Names of the classes of some images; none where the source has none."""
    names = source.class_names
    return np.asarray([names[source[int(i)]["label"]] for i in index] if names else [], str)


def options_of(settings: AnalyzeSettings) -> Options:
    """How similarity and pictures of features are made."""
    representations = settings.representations
    return Options(
        representations.cka,
        representations.across,
        representations.neighbours,
        representations.embedding_map,
        settings.run.seed,
    )


def write_results(analysis: Analysis, settings: AnalyzeSettings, workdir: Path) -> None:
    """Tables, arrays, matrices, figures and the report."""
    analysis.save(workdir)
    options = options_of(settings)
    matrices = {f"cka_{kind}": analysis.cka(kind, options.cka, across=options.across) for kind in analysis.compared}
    for kind in analysis.kinds:
        if options.neighbours < analysis.images:
            shared = analysis.nearest_neighbours(kind, options.neighbours, across=options.across)
            matrices[f"neighbours_{kind}"] = shared
        else:
            print(f"no shared neighbours of {kind} features: {options.neighbours} of {analysis.images} images")
    if matrices:
        save_matrices(matrices, workdir / "similarity.npz")
    if settings.statistics.compat:
        print(compat_table(analysis.table).drop(columns="difference").to_string(index=False), flush=True)
    print(summary_text(analysis), flush=True)
    if settings.run.report:
        print(f"report: {_write_report(analysis, settings, workdir)}", flush=True)


def _write_report(analysis: Analysis, settings: AnalyzeSettings, workdir: Path) -> Path:
    """Figures one by one, and the page with all of them."""
    sections = []
    for section, figures in analysis_sections(analysis, options_of(settings)):
        sections.append(section)
        for name, figure in figures.items():
            save_figure(figure, workdir / "figures", name)
    sections.append(Section("Configuration", [Configuration(dataclasses.asdict(settings))]))
    names = analysis.encoders
    title = f"How {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))} attend{'s' * (len(names) == 1)}"
    return write_report(workdir / "report.html", title=title, sections=sections, summary=analysis.summary())


SHOWN = (
    ("attention_distance", "patches"),
    ("attention_entropy", "patches"),
    ("kl_between_heads", "patches"),
    ("normalised_mutual_information", "patches"),
    ("self_attention", "class"),
    ("rankme", "pooled"),
)
"""Statistics of the table on the terminal, and their query group."""


def summary_text(analysis: Analysis) -> str:
    """A few statistics by encoder and layer, with half their 95 % intervals."""
    table = analysis.table[analysis.table["head"].isna()]
    columns = {}
    for statistic, query in SHOWN:
        rows = table[(table["statistic"] == statistic) & (table["query"] == query)].set_index(["encoder", "layer"])
        if len(rows):
            half = (rows["ci95_high"] - rows["value"]).map(lambda x: "" if np.isnan(x) else f" ± {x:.2g}")
            columns[f"{statistic} ({rows['unit'].iloc[0]})"] = rows["value"].map("{:.4g}".format) + half
    shown = pd.DataFrame(columns)
    places = sorted(shown.index, key=lambda place: (analysis.encoders.index(place[0]), place[1]))
    return shown.reindex(places).fillna("").to_string()
