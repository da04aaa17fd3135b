"""Get what a run answered to its test clips: as it was stored, where that still holds, else by scoring them anew."""

import csv
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tubelet.classifier import Classifier
from tubelet.data.dataset import BadSample
from tubelet.data.loader import LoaderOptions
from tubelet.data.manifest import Manifest
from tubelet.errors import ConfigError
from tubelet.evaluation.evaluate import score_samples
from tubelet.evaluation.opening import open_split
from tubelet.evaluation.report import Scored
from tubelet.model_folder import hash_weights
from tubelet.prediction.load import find_model, find_remote, load_classifier

__all__ = ["Answers", "collect_answers"]


@dataclass(frozen=True, eq=False)
class Answers:
    """Hold a model, the clips it was asked about, and what it said."""

    name: str
    """What tables call it."""
    classifier: Classifier
    manifest: Manifest
    scored: Scored
    is_stored: bool
    """Whether the answers are those that the run's own evaluation wrote down."""
    size_bytes: int | None
    """Of the model folder; None where the model lies elsewhere."""
    remarks: tuple[str, ...]


def collect_answers(
    run: str | os.PathLike[str],
    data: str | os.PathLike[str] | Manifest | None,
    split: str,
    *,
    options: LoaderOptions,
    device: str = "auto",
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Answers:
    """Load a run and get its answers to one split.

    Args:
        run: anything that `tubelet.load` takes.
        data: the clips; None: those the run was trained on. Answers that were stored count for the same clips only.
        split: `test`, `val` or `train`.
        options: batch, workers, decoder.
        device: where the model runs.
        on_step: called with samples done and samples in all.

    Raises:
        ConfigError: a multi-label model.
        DataError: no clips in the split, none that can be read, or other classes than the model's.
    """
    classifier = load_classifier(run, device=device)
    if classifier.task == "multilabel":
        raise ConfigError(
            f"cannot compare '{run}' - it is a multi-label model, and a comparison counts clips whose one class is "
            "named right - evaluate it: 'tubelet evaluate' measures mAP."
        )
    opened = open_split(run, classifier, data, split, "compare")
    manifest = opened.manifest
    folder = None if find_remote(run) is not None else find_model(run)
    scored = folder and _read_stored(folder, hash_weights(classifier.model), manifest, split)
    is_stored = scored is not None
    scored = scored or score_samples(classifier, opened.samples, manifest, options=options, on_step=on_step)
    opened.check_read(len(scored.labels), scored.bad, "compare")
    size = None if folder is None else sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return Answers(Path(run).name, classifier, manifest, scored, is_stored, size, opened.remarks)


def _read_stored(folder: Path, weights: str, manifest: Manifest, split: str) -> Scored | None:
    """Read predictions.csv beside a model; None where it is of other weights, clips or views."""
    report, table = folder.parent / "report.json", folder.parent / "predictions.csv"
    if not (report.exists() and table.exists()):
        return None
    told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    wanted = {"weights": weights, "digest": manifest.digest, "split": split, "views": 1}
    if {key: told.get(key) for key in wanted} != wanted:
        return None
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        reader = csv.DictReader(stream)
        rows, known = {row["source"]: row for row in reader}, set(reader.fieldnames or ())
    samples = manifest.select(split)
    failed = {row["name"]: row for row in told["failed"]}
    good = [sample for sample in samples if sample.name in rows and sample.name not in failed]
    bad = [sample for sample in samples if sample.name in failed]
    columns = [f"score:{name}" for name in manifest.classes]
    if len(good) + len(bad) != len(samples) or not known.issuperset(columns):
        return None
    scores = np.array([[float(rows[sample.name][column]) for column in columns] for sample in good])
    labels = np.array([manifest.label_index(sample) for sample in good], np.int64)
    return Scored(
        scores.reshape(len(good), len(columns)),
        labels,
        tuple(good),
        tuple(BadSample(**failed[sample.name]) for sample in bad),
    )
