"""Teach a trained model by example: its features stay as they are, and a head is fitted to a few labelled clips.

tubelet.teach("runs/mine", "labelled/", pool="others/", output="taught")  ->  a model, and which clips to label next

    clips  ->  features, computed once a clip  ->  ridge regression, solved anew in well under a second  ->  head
"""

import csv
import os
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from tubelet import files
from tubelet.classifier import Classifier
from tubelet.data.dataset import BadSample
from tubelet.data.loader import LoaderOptions
from tubelet.data.manifest import Manifest
from tubelet.data.unlabelled import open_unlabelled
from tubelet.errors import DataError
from tubelet.evaluation.evaluate import number_groups
from tubelet.metrics import Interval, estimate_share
from tubelet.model_folder import hash_weights
from tubelet.prediction.load import load_classifier
from tubelet.teaching.embeddings import Embeddings, embed
from tubelet.teaching.head import FittedHead, fit_head

__all__ = ["Lesson", "Uncertain", "teach"]


class Uncertain(NamedTuple):
    """Name a clip that the model is not sure of."""

    name: str
    label: str
    """What it would say."""
    margin: float
    """How much likelier that is than the next class, 0..1."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """Hold a model that was taught by example."""

    classifier: Classifier
    accuracy: float
    """Share of the clips that are named right by a head fitted to all the others."""
    interval: Interval | None
    """95 %, over clips or whole groups of them."""
    n: int
    """Clips that it was taught with."""
    seconds: float
    """That fitting took."""
    uncertain: tuple[Uncertain, ...]
    """Clips of the pool, those that the model is least sure of first: labels of these teach it most."""
    failed: tuple[BadSample, ...]
    """Clips that could not be read."""

    def headline(self) -> str:
        """State the result in one line."""
        ends = f" (95 % interval {self.interval.low:.1%} to {self.interval.high:.1%})" if self.interval else ""
        return (
            f"{self.accuracy:.1%} of {self.n} clips are named right when left out{ends}; "
            f"{len(self.classifier.classes)} classes, fitted in {self.seconds:.2f} s; {len(self.failed)} could not be "
            "read"
        )


def teach(
    model: Classifier | str | os.PathLike[str],
    data: Manifest | str | os.PathLike[str],
    *,
    pool: Manifest | str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    options: LoaderOptions | None = None,
    device: str = "auto",
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Lesson:
    """Teach a model the classes of a few labelled clips, and say which others to label next.

    Only the head is new; a training that changes the features as well reaches more where there are hundreds of clips.

    Args:
        model: whose features are used: a classifier, or anything that `tubelet.load` takes.
        data: labelled clips; those of a split `test` are left alone.
        pool: clips without labels.
        output: a folder for `model/`, an ordinary model folder, for the features of all clips, which the next call with
            the same folder does not compute again, and for `uncertain.csv`.
        options: batch, workers, decoder.
        device: where a model that is loaded runs.
        on_step: called with clips done and clips in all, for the labelled clips and then for the pool.

    Returns:
        The classifier, in evaluation mode, and what is known of it.

    Raises:
        DataError: fewer than two classes with clips that can be read.
        ConfigError: clips of several labels, or an output that holds something else.
    """
    if output is not None:
        files.check_folder(output)
    classifier = model if isinstance(model, Classifier) else load_classifier(model, device=device)
    taught = _take_labelled(data)
    told = _remember(classifier, taught, output, "taught.npz", options, on_step)
    classes = tuple(name for name in taught.classes if name in told.labels)
    if len(classes) < 2:
        raise DataError(
            f"cannot teach with the clips of '{taught.origin}' - {len(classes)} of their classes have clips that can "
            "be read - label clips of two classes at least."
        )
    started = time.perf_counter()
    labels = np.array([classes.index(label) for label in told.labels], np.int64)
    head = fit_head(told.features, labels, len(classes))
    seconds = time.perf_counter() - started
    by_name = {sample.name: sample for sample in taught.samples}
    right = head.left_out.argmax(1) == labels
    uncertain: tuple[Uncertain, ...] = ()
    failed = told.failed
    if pool is not None:
        others = pool if isinstance(pool, Manifest) else open_unlabelled(pool, val=0.0, test=0.0)
        asked = _remember(classifier, others, output, "pool.npz", options, on_step)
        uncertain, failed = _rank_uncertain(asked, head, classes, set(told.names)), (*failed, *asked.failed)
    interval = estimate_share(right, number_groups([by_name[name] for name in told.names])[0])
    new = _put_head(classifier, head, classes)
    lesson = Lesson(new, float(right.mean()), interval, len(right), seconds, uncertain, failed)
    if output is not None:
        _write(Path(output), lesson)
    return lesson


def _take_labelled(data: Manifest | str | os.PathLike[str]) -> Manifest:
    manifest = (data if isinstance(data, Manifest) else open_unlabelled(data, val=0.0, test=0.0)).with_task(
        "classification"
    )
    return replace(manifest, samples=tuple(sample for sample in manifest.samples if sample.split != "test"))


def _remember(
    classifier: Classifier,
    manifest: Manifest,
    output: str | os.PathLike[str] | None,
    name: str,
    options: LoaderOptions | None,
    on_step: Callable[[int, int], None],
) -> Embeddings:
    """Compute features, but for those that an earlier call left in the output folder."""
    path = None if output is None else Path(output) / name
    known = Embeddings.read(path) if path and path.exists() else None
    if known is not None and known.weights != hash_weights(classifier.model):
        known = None  # of a model that the folder was used with before
    found = embed(classifier, manifest, known=known, options=options, on_step=on_step)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        found.save(path)
    return found


def _rank_uncertain(
    asked: Embeddings, head: FittedHead, classes: Sequence[str], known: set[str]
) -> tuple[Uncertain, ...]:
    logits = torch.from_numpy(asked.features.astype(np.float64) @ head.weight.T + head.bias)
    best = logits.softmax(dim=1).topk(2, dim=1)
    rows = zip(asked.names, best.values.tolist(), best.indices[:, 0].tolist(), strict=True)
    found = [Uncertain(name, classes[place], first - second) for name, (first, second), place in rows]
    return tuple(sorted((one for one in found if one.name not in known), key=lambda one: one.margin))


def _put_head(classifier: Classifier, head: FittedHead, classes: tuple[str, ...]) -> Classifier:
    """Build the same model with another head; the one that was given stays as it is."""
    model = deepcopy(classifier.model)
    model.reset_head(len(classes))
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(head.weight))
        model.head.bias.copy_(torch.from_numpy(head.bias))
    return Classifier(model.eval(), classifier.input_spec, classes)


def _write(folder: Path, lesson: Lesson) -> None:
    lesson.classifier.save(folder / "model", {"taught": {"n": lesson.n, "accuracy_left_out": lesson.accuracy}})
    with files.write_whole(folder / "uncertain.csv", "w") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "guess", "margin"])
        writer.writerows((one.name, one.label, f"{one.margin:.6g}") for one in lesson.uncertain)
