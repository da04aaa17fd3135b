"""Calibrate a trained classifier on clips it did not learn from, and keep what they said beside its weights."""

import os
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np

from tubelet.calibration import Calibration, fit_novelty, fit_temperature, score_labels
from tubelet.classifier import Classifier
from tubelet.data.loader import LoaderOptions
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample
from tubelet.errors import CheckpointError, DataError
from tubelet.evaluation.inference import infer_samples
from tubelet.evaluation.opening import open_split
from tubelet.model_folder import hash_weights, replace_calibration
from tubelet.prediction.load import find_model, find_remote, load_classifier

__all__ = ["calibrate", "fit_calibration"]

TRAINING_CLIPS = 1000
"""Training clips that say where the classes lie; for more classes than 200, five of each."""
MOST_PER_CLASS = 50
LEAST_PER_CLASS = 5


def calibrate(
    model: str | os.PathLike[str],
    data: Manifest | str | os.PathLike[str] | None = None,
    *,
    split: str = "val",
    decoder: str = "pyav",
    workers: int = 2,
    device: str = "auto",
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Calibration:
    """Measure a model on labelled clips, and store what they say in its folder, in place of what was there.

    Training does so with its validation clips. These also chose the epoch, so that what they say is a little too good;
    clips that nothing was decided by, such as those where the model will be used, say it better.

    Args:
        model: a run, or a model folder that tubelet wrote.
        data: a manifest or a source of clips; None takes the data the model was trained on, split in the same way.
        split: `val`, `test` or `train`; where the data states no split, all clips count as this one.
        decoder: which backend reads the videos.
        workers: processes that decode.
        device: where the model runs.
        on_step: called with clips done and clips in all.

    Raises:
        DataError: no clips in the split, or other classes than the model's.
        CheckpointError: a model that does not lie in a folder of ours.
    """
    if find_remote(model) is not None:
        raise CheckpointError(
            f"cannot calibrate {os.fspath(model)!r} - it lies on the hub, and a calibration is stored beside the "
            "weights - save it first: tubelet.load(...).save(FOLDER)."
        )
    folder = find_model(model).resolve()
    classifier = load_classifier(folder, device=device)
    opened = open_split(model, classifier, data, split, "calibrate")
    for remark in opened.remarks:
        warnings.warn(remark, stacklevel=2)
    options = LoaderOptions(batch=16, workers=workers, decoder=decoder)
    found = fit_calibration(classifier, opened.manifest, split=split, options=options, on_step=on_step)
    replace_calibration(folder, found.to_values(), found.to_arrays())
    return found


def fit_calibration(
    classifier: Classifier,
    manifest: Manifest,
    *,
    split: str = "val",
    options: LoaderOptions | None = None,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Calibration:
    """Measure a classifier on the clips of a split.

    Where its classes lie is learned from training clips of the same data, a thousand at most; a classifier that knows
    it already (it has a calibration) keeps what it knows, as the data may be other than it was trained on.

    Args:
        classifier: what is calibrated; it is not changed.
        manifest: labelled clips.
        split: those that were not trained on.
        options: batch, workers, decoder.
        on_step: called with clips done and clips in all.

    Raises:
        DataError: no readable clips in the split, other classes than the model's, or scores that are no numbers.
    """
    opened = open_split(classifier, classifier, manifest, split, "calibrate")
    manifest, samples = opened.manifest, opened.samples
    weights = hash_weights(classifier.model)
    own = classifier.calibration
    known = own.novelty if own and own.weights == weights else None
    is_single = classifier.task == "classification"
    training = _choose_training(manifest) if is_single and known is None and split != "train" else []
    total = len(samples) + len(training)
    held_out = infer_samples(classifier, samples, manifest, options=options, on_step=lambda done: on_step(done, total))
    opened.check_read(len(held_out.labels), held_out.bad, "calibrate")
    if not (np.isfinite(held_out.logits).all() and np.isfinite(held_out.features).all()):
        raise DataError(
            f"cannot calibrate on {opened.place} - the model's scores of its clips are no numbers - name other "
            "clips, or train again with a smaller --optimizer.lr."
        )
    stated = partial(Calibration, n=len(held_out.labels), split=split, digest=manifest.digest, weights=weights)
    if not is_single:
        # Each class is a question of its own: a classification of two classes, one of which has the logit 0.
        pairs = np.stack([np.zeros(held_out.logits.size), held_out.logits.ravel()], axis=1)
        return stated(fit_temperature(pairs, held_out.labels.ravel().astype(np.int64)), np.zeros(0))
    temperature = fit_temperature(held_out.logits, held_out.labels)
    if known is not None:
        known = known.draw_border(held_out.features)
    elif training:
        rows = infer_samples(
            classifier, training, manifest, options=options, on_step=lambda done: on_step(len(samples) + done, total)
        )
        sound = np.isfinite(rows.features).all(axis=1)
        learned = fit_novelty(rows.features[sound], rows.labels[sound]) if sound.any() else None
        known = learned and learned.draw_border(held_out.features)
    return stated(temperature, score_labels(held_out.logits, held_out.labels, temperature), novelty=known)


def _choose_training(manifest: Manifest) -> list[Sample]:
    """Choose clips of each class, spread evenly over those there are."""
    most = min(MOST_PER_CLASS, max(LEAST_PER_CLASS, TRAINING_CLIPS // len(manifest.classes)))
    by_class: dict[str, list[Sample]] = {}
    for sample in manifest.select("train"):
        by_class.setdefault(sample.label, []).append(sample)
    return [row for rows in by_class.values() for row in rows[:: -(-len(rows) // most)]]
