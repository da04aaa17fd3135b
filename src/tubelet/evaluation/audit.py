"""Ask whether a model uses time: play the same clips shuffled and backward."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tubelet.classifier import Classifier
from tubelet.data.catalogue import Request, open_data
from tubelet.data.features import check_kind
from tubelet.data.loader import LoaderOptions
from tubelet.data.manifest import Manifest
from tubelet.errors import ConfigError, DataError
from tubelet.evaluation.evaluate import score_samples

__all__ = ["TimeAudit", "audit"]


@dataclass(frozen=True)
class TimeAudit:
    """State how much of the accuracy hangs on the order of frames."""

    top1: float
    """Accuracy on the clips as they are."""
    top1_shuffled: float
    """Accuracy with the frames of each clip in random order."""
    top1_reversed_partner: float | None
    """Share of backward clips given the label their motion has backward (up for down); None without known partners."""
    n: int
    n_failed: int


def audit(
    classifier: Classifier,
    data: Manifest | str | os.PathLike[str],
    *,
    split: str = "test",
    partners: Mapping[str, str] | None = None,
    options: LoaderOptions | None = None,
) -> TimeAudit:
    """Measure accuracy with frames in order, shuffled, and reversed.

    Args:
        classifier: what is measured.
        data: labelled clips, as a manifest or as anything that `train` takes.
        split: which of them.
        partners: for each class, the class its clips belong to when they are played backward.
        options: batch, workers, decoder.

    Raises:
        DataError: no clips in the split, none that can be read, or other classes than the model's.
        ConfigError: a class without a partner, or a multi-label model.
    """
    manifest = (
        data if isinstance(data, Manifest) else open_data(data, split_if_missing=False, request=Request(offline=True))
    )
    check_kind(manifest, classifier.input_spec)
    if classifier.task == "multilabel":
        raise ConfigError(
            "cannot audit a multi-label model - an audit compares top-1 accuracies, and its clips have no one class - "
            "evaluate it: 'tubelet evaluate' measures mAP."
        )
    manifest = manifest.with_task(classifier.task).with_classes(classifier.classes)
    samples = manifest.select(split)
    if not samples:
        raise DataError(f"cannot audit on split '{split}' of {manifest.origin} - it has no clips there - name another.")
    strangers = sorted(set(classifier.classes) - set(partners)) if partners else []
    if strangers:
        raise ConfigError(f"cannot audit with these partners - '{strangers[0]}' has none - name one for every class.")
    outcomes = {
        order: score_samples(classifier, samples, manifest, order=order, options=options)
        for order in ("ordered", "shuffled", "reversed")
    }
    right = {order: scored.scores.argmax(1) == scored.labels for order, scored in outcomes.items()}
    reversed_partner = None
    if partners:
        partner_of = np.array([classifier.classes.index(partners[name]) for name in classifier.classes])
        backward = outcomes["reversed"]
        reversed_partner = float((backward.scores.argmax(1) == partner_of[backward.labels]).mean())
    return TimeAudit(
        top1=float(right["ordered"].mean()),
        top1_shuffled=float(right["shuffled"].mean()),
        top1_reversed_partner=reversed_partner,
        n=len(right["ordered"]),
        n_failed=len(outcomes["ordered"].bad),
    )
