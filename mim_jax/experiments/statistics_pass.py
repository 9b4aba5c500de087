"""The pass over the images of one encoder: it goes on where it was stopped, and takes in what other runs found."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mim_jax.analysis.block_measures import Selection
from mim_jax.analysis.collecting import (
    Batch,
    Collected,
    Features,
    StageFeatures,
    collect,
    collect_all,
    layered_features,
    measured_batch,
)
from mim_jax.analysis.measuring import Measure
from mim_jax.analysis.moments import Moments
from mim_jax.analysis.partial_sums import SumsFile
from mim_jax.data.sources import Source
from mim_jax.data.subset import Subset
from mim_jax.errors import InputError
from mim_jax.experiments.analyze_settings import AnalyzeSettings
from mim_jax.experiments.evaluation import on_host
from mim_jax.experiments.kept_features import KeptFeatures, joined_features
from mim_jax.experiments.placed_encoder import PlacedEncoder, listing_hash
from mim_jax.models.build import make_encoder
from mim_jax.training.interruption import Interruption
from mim_jax.training.loop import Interrupted
from mim_jax.training.progress import Progress
from mim_jax.training.sharding import replicated

SUMS, FEATURES = "sums.npz", "features"
INDEX = "index"
"""Beside the features of a batch, which images they are of."""
KEPT_SAMPLES = frozenset({"class", "pooled"})


@dataclasses.dataclass(frozen=True)
class StatisticsPass:
    """One encoder's statistics.

    Attributes:
        placed: the encoder on the mesh.
        settings: those of the analysis.
        source: the images of this run.
        folder: where sums and features are kept.
        merged: the same folders of other runs, whose sums are added.
    """

    placed: PlacedEncoder
    settings: AnalyzeSettings
    source: Source
    folder: Path
    merged: tuple[Path, ...] = ()

    def run(self) -> tuple[Moments, Features]:
        """Moments of all images, and the features of those that are kept, with their numbers as the kind `INDEX`.

        Raises Interrupted after SIGTERM or Ctrl-C, once everything is saved, and InputError if there is no image.
        """
        start = found = self._found_before()
        kept = self._features.read(min(start.batches, self._kept_batches))
        progress = Progress(self._total, start.batches, active=jax.process_index() == 0)
        with contextlib.closing(progress), Interruption() as interruption:
            for found, batch, features in self._collect(start):
                if found.batches <= self._kept_batches:
                    kept.append(self._keep(found.batches - 1, features, batch))
                self._pause(found, interruption)
                progress.update(found.batches, {})
        if found.moments is None or not int(found.moments.count):
            raise InputError("no images to take statistics of; give at least one")
        self._save(found)
        return self._merged(jax.device_get(found.moments), kept)

    def spectra(self) -> Moments | None:
        """Moments with the spectra of the tokens of the first images; None if there are to be none."""
        count = min(self.settings.statistics.spectra_images, len(self.source))
        if not count:
            return None
        selection = Selection(names=("top_singular_share",), spectra=True)
        batches = self._batches(Subset(self.source, np.arange(count)), 0)
        return collect_all(self._measure(selection), batches, sharding=replicated(self.placed.mesh))

    def _found_before(self) -> Collected:
        """What an earlier run saved; nothing if features that belong to it are gone."""
        found = self._sums.load(self._shapes)
        return found if self._features.complete(min(found.batches, self._kept_batches)) else Collected()

    def _collect(self, found: Collected) -> Iterator[tuple[Collected, Batch, Any]]:
        return collect(
            self._measure(self._selection),
            self._batches(self.source, found.batches),
            start=found,
            until=self.settings.statistics.limits,
            describe=self.source.describe,
            sharding=replicated(self.placed.mesh),
        )

    def _keep(self, number: int, features: StageFeatures, batch: Batch) -> Features:
        own, valid = on_host((features, batch.valid))
        layered = layered_features(own, valid)
        wanted = {kind: own for kind, own in layered.items() if kind in self.settings.representations.samples}
        wanted[INDEX] = [batch.index[valid]]
        if jax.process_index() == 0:
            self._features.write(number, wanted)
        return wanted

    def _pause(self, found: Collected, interruption: Interruption) -> None:
        every, stop = self.settings.run.checkpoint_every, interruption.requested(found.batches)
        if stop or (every and found.batches % every == 0):
            self._save(found)
        if stop:
            raise Interrupted(
                f"stopped by {interruption.signal_name} after batch {found.batches} of {self._total} of "
                f"'{self.placed.name}'; it is saved"
            )

    def _save(self, found: Collected) -> None:
        moments = jax.device_get(found.moments)
        if jax.process_index() == 0:
            self._sums.save(dataclasses.replace(found, moments=moments))

    def _merged(self, moments: Moments, kept: list[Features]) -> tuple[Moments, Features]:
        """With what other runs found."""
        if self.merged:
            moments = self._sums.merged(moments, [folder / SUMS for folder in self.merged])
            kept = kept + [part for folder in self.merged for part in KeptFeatures(folder / FEATURES).read_all()]
        return moments, joined_features(kept, self.settings.representations.images)

    @property
    def _selection(self) -> Selection:
        statistics = self.settings.statistics
        return Selection(
            statistics.names,
            statistics.queries,
            arrays=not statistics.names,
            compat=statistics.compat,
            implementation=statistics.implementation or None,
        )

    def _measure(self, selection: Selection) -> Any:
        config = self.placed.model.encoder_config
        encoder = make_encoder(config, self.placed.computation)
        return jax.tree_util.Partial(Measure(encoder, config, selection, self.placed.mesh), self.placed.parameters)

    def _batches(self, source: Source, first: int) -> Iterator[Batch]:
        """From batch number `first` on."""
        rest = Subset(source, np.arange(first * self.placed.rows, len(source)))
        for number, batch in enumerate(self.placed.batches(rest), first):
            index = np.arange(self.placed.rows) + number * self.placed.rows
            yield Batch(self.placed.normalise(batch["image"]), batch["valid"], index)

    @property
    def _total(self) -> int:
        return math.ceil(len(self.source) / self.placed.rows)

    @property
    def _kept_batches(self) -> int:
        """Batches whose features are kept."""
        limit = self.settings.representations.images or len(self.source)
        wanted = KEPT_SAMPLES & set(self.settings.representations.samples)
        return math.ceil(min(limit, len(self.source)) / self.placed.rows) if wanted else 0

    @property
    def _features(self) -> KeptFeatures:
        return KeptFeatures(self.folder / FEATURES)

    @functools.cached_property
    def _sums(self) -> SumsFile:
        samples = list(self.settings.representations.samples)
        what = self.placed.fingerprint(selection=dataclasses.asdict(self._selection), samples=samples)
        images = listing_hash(self.source, self.placed.rows, self.settings.representations.images)
        return SumsFile(self.folder / SUMS, what, images)

    @functools.cached_property
    def _shapes(self) -> Moments:
        config = self.placed.model.encoder_config
        images = jax.ShapeDtypeStruct((self.placed.rows, *config.image_size, config.channels), jnp.float32)
        valid = jax.ShapeDtypeStruct((self.placed.rows,), bool)
        return jax.eval_shape(measured_batch, self._measure(self._selection), images, valid)[0]
