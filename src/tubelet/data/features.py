"""Read clips whose frames another network has turned into vectors, and compare them with what a model takes.

    row (time, feature) of an .npz file  ->  real frames  ->  plan  ->  float32 (time, feature)  ->  batch, padded

No feature ever passes through uint8, and none is invented: a clip shorter than the model's stays shorter, and the batch
says how many of its frames are real.
"""

from collections import Counter

import numpy as np
from jaxtyping import Float32

from tubelet.data.arrays import load_features
from tubelet.data.manifest import Manifest
from tubelet.data.sample import FeatureShape, Sample
from tubelet.errors import DataError
from tubelet.video.clip import VideoInfo
from tubelet.video.sampling import plan
from tubelet.video.spec import InputSpec

__all__ = ["Features", "check_kind", "choose_rows", "find_shape", "measure_features", "read_features"]

Features = Float32[np.ndarray, "_time feature"]
"""Feature vectors of a clip's frames; clips, and what is chosen of one, differ in the number of frames."""


def read_features(
    sample: Sample, spec: InputSpec, *, views: int = 1, training: bool = False, generator: np.random.Generator
) -> list[Features]:
    """Read the features of each view: all frames of a clip that the model holds, else a choice as of a video's.

    Raises:
        DataError: the sample names no features, or holds numbers that are none.
    """
    rows = _load_whole(sample)
    return choose_rows(rows, spec, views=views, training=training, generator=generator)


def _load_whole(sample: Sample) -> Features:
    """Read every real frame."""
    if sample.member is None or sample.row is None or sample.features is None:
        raise DataError(f"cannot read features of '{sample.name}' - it holds pixels - give a row (time, feature).")
    rows = load_features(sample.source, sample.member, sample.row)[: sample.features.frames]
    if not np.isfinite(rows).all():
        raise DataError(
            f"cannot use '{sample.name}' - some of its features are no finite numbers - compute them again, or leave "
            "the clip out."
        )
    return rows


def choose_rows(
    rows: Features,
    spec: InputSpec,
    *,
    views: int = 1,
    training: bool = False,
    generator: np.random.Generator | None = None,
) -> list[Features]:
    """Choose the frames of each view as `spec.sampling` says; a clip that the model holds is taken whole."""
    if len(rows) <= spec.frames:
        return [rows] * views
    info = VideoInfo(len(rows), 1, 1, 0.0, 0.0, "features", 0, rows.shape[1])
    return [rows[row] for row in plan(info, spec, views=views, training=training, generator=generator)]


def find_shape(manifest: Manifest) -> FeatureShape | None:
    """Return how long the longest clip is and how many features a frame has; None for a set of pixels.

    Raises:
        DataError: some samples hold pixels and others features, or features of several lengths.
    """
    kinds = Counter(sample.features.dim if sample.features else None for sample in manifest.samples)
    if len(kinds) > 1:
        found = ", ".join(
            f"{count} clips of {'pixels' if dim is None else f'{dim} features a frame'}"
            for dim, count in kinds.most_common()
        )
        raise DataError(f"cannot use '{manifest.origin}' - it mixes {found} - keep each kind in a file of its own.")
    shapes = [sample.features for sample in manifest.samples if sample.features]
    return FeatureShape(max(shape.frames for shape in shapes), shapes[0].dim) if shapes else None


def check_kind(manifest: Manifest, spec: InputSpec) -> None:
    """Check that the clips are what the model takes: pixels, or features of its length.

    Raises:
        DataError: they are not.
    """
    shape = find_shape(manifest)
    if shape is None and spec.kind == "features":
        raise DataError(
            f"cannot use '{manifest.origin}' with a model of features ({spec.channels} numbers a frame) - it holds "
            "pixels - store features as x (sample, time, feature) in an .npz file, or choose a model of pixels, such "
            "as cnn_gru_nano."
        )
    if shape is not None and spec.kind == "pixels":
        raise DataError(
            f"cannot use '{manifest.origin}' with a model of pixels - it holds features, {shape.dim} numbers a frame - "
            "give videos, or choose a model of features: --model cnn_gru or --model cnn_transformer."
        )
    if shape is not None and shape.dim != spec.channels:
        raise DataError(
            f"cannot use '{manifest.origin}' with a model of {spec.channels} features a frame - it has {shape.dim} - "
            "compute them with the network that the model was trained on, or train a model with "
            f"--input.channels {shape.dim}."
        )


def measure_features(manifest: Manifest, split: str = "train") -> tuple[tuple[float, ...], float]:
    """Measure the mean of each feature, and the one deviation that brings all of them to unit variance on average.

    One deviation, so that large features stay large: after a principal component analysis, or behind a ReLU, small
    features are mostly noise, and dividing each by its own deviation made them the equals of the others (docs/log.md).

    Returns:
        The means, and the deviation: the root of the features' mean variance, 1 where nothing varies. Both have seven
        digits, so that a configuration can be read. Clips that hold no finite numbers take no part.
    """
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for sample in manifest.select(split):
        try:
            wide = _load_whole(sample).astype(np.float64)
        except DataError:
            continue  # counted and named when the epoch comes to it
        count, total, squares = count + len(wide), total + wide.sum(axis=0), squares + np.square(wide).sum(axis=0)
    means = total / max(count, 1)
    power = squares / max(count, 1)
    variance = float((power - np.square(means)).mean())
    has_spread = variance > 1e-12 * float(power.mean())  # less is what rounding leaves of constants
    return tuple(float(f"{mean:.7g}") for mean in means), float(f"{variance**0.5:.7g}") if has_spread else 1.0
