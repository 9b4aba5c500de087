"""The test images of a pre-training run, and what is known from all its images before the first step."""

from mim_jax.data.labels import with_classes
from mim_jax.data.sources import Source, open_source
from mim_jax.data.subset import random_subset
from mim_jax.errors import InputError
from mim_jax.experiments import plan
from mim_jax.experiments.labels import check_classes, check_labels, labels_of, makeable_shots
from mim_jax.experiments.read_keys import PRETRAINING, unread_sizes
from mim_jax.experiments.settings import Settings
from mim_jax.probing.evaluate import NEIGHBOURS


def open_test_source(settings: Settings, source: Source) -> Source:
    """The test images; pictures and attention statistics make do with training images where there are none.

    Raises InputError if images or labels are missing that a probe needs.
    """
    data, evaluation = settings.data, settings.evaluation
    probes = evaluation.probe or evaluation.knn_every > 0
    try:
        test = open_source(data.source, data.test_split, data_dir=data.data_dir)
    except InputError as error:
        if probes:
            raise
        print(f"no test images, training images stand in: {error}", flush=True)
        return source
    if probes:
        check_labels(source, "training")
        check_labels(test, "test")
        test = with_classes(test, source.class_names, f"the split '{data.test_split}' of {data.source}")
    return test


def check_images(settings: Settings, source: Source, test: Source) -> list[str]:
    """Lines about what a run leaves out or does otherwise; what would end it later ends it here, by an InputError."""
    evaluation, notes = settings.evaluation, [unread_sizes(settings, PRETRAINING)]
    plan.try_transforms(settings, source, test)
    if (evaluation.attention or evaluation.statistics_every) and len(test) < 2:
        raise InputError(
            f"there is {len(test)} test image, and attention is measured of two at least; give more, or set "
            "config.evaluation.attention=False and statistics_every=0"
        )
    if evaluation.probe or evaluation.knn_every:
        probed = random_subset(source, evaluation.train_images, settings.optimization.seed)
        check_classes(probed, test)
        if len(probed) < NEIGHBOURS:
            notes.append(f"k-NN takes all {len(probed)} training images as neighbours, fewer than {NEIGHBOURS}")
        labels = labels_of(probed)
        if labels is not None and evaluation.probe:
            notes.append(makeable_shots(evaluation.shots, labels, source.class_names)[1])
    return list(filter(None, notes))
