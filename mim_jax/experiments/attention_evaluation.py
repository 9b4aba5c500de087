"""How a run's encoder attends: at its end beside random initialisation, and every now and then while it learns."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from mim_jax.analysis.block_measures import Selection
from mim_jax.analysis.collecting import Batch, collect, collect_all, layered_features
from mim_jax.analysis.measuring import Measure
from mim_jax.analysis.tables import statistics_table
from mim_jax.experiments.evaluation import FrozenFeatures, on_host
from mim_jax.experiments.plan import make_prepare
from mim_jax.models.build import Parameters
from mim_jax.ops.spectra import rankme, rankme_centered
from mim_jax.training.sharding import replicated

WATCHED = ("attention_distance", "attention_entropy", "kl_between_heads")
"""Statistics that are logged while a run learns, of every layer."""


def attention_table(frozen: FrozenFeatures, parameters: Parameters) -> pd.DataFrame:
    """Attention statistics of the encoder at random initialisation and pre-trained, on test images, unmasked."""
    trees = {"random initialisation": frozen.learner.initial().parameters, "pre-trained": parameters}
    return pd.concat([_table(name, frozen, tree) for name, tree in trees.items()], ignore_index=True)


def _table(name: str, frozen: FrozenFeatures, parameters: Parameters) -> pd.DataFrame:
    measure = _measure(frozen, parameters, Selection(arrays=False))
    moments = collect_all(measure, _batches(frozen), sharding=replicated(frozen.learner.mesh))
    return statistics_table(name, moments, frozen.learner.objective.encoder_config.depths)


def watched_statistics(frozen: FrozenFeatures, parameters: Parameters) -> dict[str, float]:
    """Mean over heads of the statistics `WATCHED` by layer, and RankMe of the mean patch token of the last layer."""
    depths, features = frozen.learner.objective.encoder_config.depths, []
    measure = _measure(frozen, parameters, Selection(WATCHED, ("patches",), arrays=False))
    moments = None
    for found, batch, own in collect(measure, _batches(frozen), sharding=replicated(frozen.learner.mesh)):
        moments = found.moments
        features.append(layered_features(*on_host((own, batch.valid)))["pooled"][-1])
    table = statistics_table("", jax.device_get(moments), depths)
    layers = table[table["head"].isna() & table["statistic"].isin(WATCHED)]
    values = {f"attention/{row.statistic}/layer_{row.layer:02d}": row.value for row in layers.itertuples()}
    last = jnp.asarray(np.concatenate(features))
    ranks = {"rankme": rankme(last), "rankme_centered": rankme_centered(last)}
    return values | {f"representation/{name}": float(value) for name, value in ranks.items()}


def _measure(frozen: FrozenFeatures, parameters: Parameters, selection: Selection) -> Any:
    objective = frozen.learner.objective
    measure = Measure(objective.encoder, objective.encoder_config, selection, frozen.learner.mesh)
    return jax.tree_util.Partial(measure, parameters["encoder"])


def _batches(frozen: FrozenFeatures) -> Iterator[Batch]:
    """The first test images, as many as the settings say."""
    prepare, limit = make_prepare(frozen.learner.preprocessing), frozen.learner.settings.evaluation.attention_images
    left, first = limit, 0
    for batch in frozen.batches("test", limit):
        rank = jnp.cumsum(batch["valid"])
        size = batch["valid"].shape[0]
        yield Batch(prepare(batch)["image"], batch["valid"] & (rank <= left), first + np.arange(size))
        left, first = left - int(rank[-1]), first + size
