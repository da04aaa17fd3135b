"""Run a classifier over samples and keep what its head reads and says, one view of each."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64

from tubelet.classifier import Classifier
from tubelet.data.dataset import BadSample, ClipDataset
from tubelet.data.loader import EpochOrder, LoaderOptions, make_loader
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample
from tubelet.evaluation.evaluate import prepare_evaluation

__all__ = ["InferredSamples", "infer_samples"]


class InferredSamples(NamedTuple):
    """Hold what a classifier made of the clips that could be read, in their order."""

    logits: Float32[np.ndarray, "clip classes"]
    features: Float32[np.ndarray, "clip dim"]
    labels: Int64[np.ndarray, " clip"] | Bool[np.ndarray, "clip classes"]
    """By the manifest's class list."""
    indices: Int64[np.ndarray, " clip"]
    """Which of the samples each is."""
    bad: tuple[BadSample, ...]


def infer_samples(
    classifier: Classifier,
    samples: Sequence[Sample],
    manifest: Manifest,
    *,
    options: LoaderOptions | None = None,
    on_step: Callable[[int], None] = lambda _done: None,
) -> InferredSamples:
    """Run the model over samples, one view each; those that cannot be read are named, never replaced.

    Args:
        classifier: whose contract the clips are fitted to.
        samples: what it is run over.
        manifest: where they come from.
        options: batch, workers, decoder.
        on_step: called with samples done.
    """
    options = options or LoaderOptions()
    prepare = partial(prepare_evaluation, spec=classifier.input_spec)
    dataset = ClipDataset(samples, manifest, classifier.input_spec, prepare, decoder=options.decoder)
    logits, features, labels, indices = [], [], [], []
    bad: list[BadSample] = []
    done = 0
    for batch in make_loader(dataset, EpochOrder(len(samples), options.batch, None), options):
        bad.extend(batch.bad)
        if len(batch.labels):
            inferred = classifier.infer(batch.clips, lengths=batch.lengths)
            logits.append(inferred.logits.cpu().numpy())
            features.append(inferred.features.cpu().numpy())
            labels.append(batch.labels.numpy())
            indices.append(batch.indices.numpy())
        done += len(batch.labels) + len(batch.bad)
        on_step(done)
    if not labels:
        none, nobody = np.zeros((0, len(classifier.classes)), np.float32), np.zeros(0, np.int64)
        return InferredSamples(none, none, nobody, nobody, tuple(bad))
    rows = (np.concatenate(parts) for parts in (logits, features, labels, indices))
    return InferredSamples(next(rows), next(rows), next(rows), next(rows), tuple(bad))
