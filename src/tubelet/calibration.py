"""Say how far a classifier's answers can be trusted, by clips it did not learn from; numpy only.

    temperature   softmax(logits / T): what is said with 80 % is right in about 80 % of cases
    label sets    all classes that are likely enough: the true one is among them as often as was asked for
    novelty       how far the features of a clip lie from those of every known class: a clip of none of them

What is measured here holds for clips like those it was measured on, and for the weights it was measured with.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from tubelet.errors import ConfigError

__all__ = ["COVERAGE", "Calibration", "Novelty", "check_coverage", "fit_novelty", "fit_temperature", "score_labels"]

COVERAGE = 0.9
"""How often a label set shall hold the true class, unless something else is asked for."""

Features = Float32[np.ndarray, "clip dim"]
Logits = Float[np.ndarray, "clip classes"]

_RANGE = (0.05, 20.0)
"""Least and greatest temperature that is looked at: beyond, few clips say more than they know."""
_KNOWN_SHARE = 0.99
"""Share of the clips of known classes that are to pass as known."""


@dataclass(frozen=True, eq=False)
class Novelty:
    """Tell clips of no known class by the distance of their features from the nearest class."""

    centers: Float32[np.ndarray, "center dim"]
    """Mean features of each class's training clips, whitened."""
    whitening: Float32[np.ndarray, "dim dim"]
    """Turns features so that those of one class vary by 1 in every direction: what varies much anyway counts little."""
    distances: Float64[np.ndarray, " clip"]
    """Of the held-out clips from their nearest centers, ascending."""

    @property
    def border(self) -> float:
        """The distance that 99 % of clips of known classes stay below; with fewer than 99, the largest there was."""
        return float(self.distances[min(_rank(len(self.distances), _KNOWN_SHARE), len(self.distances)) - 1])

    @property
    def false_alarms(self) -> float:
        """Share of clips of known classes that are expected beyond the border."""
        count = len(self.distances)
        return 1 - min(_rank(count, _KNOWN_SHARE), count) / (count + 1)

    def draw_border(self, held_out: Features) -> "Novelty":
        """Learn how far clips of the known classes stray, from some that were not trained on."""
        return replace(self, distances=np.sort(_measure(held_out, self.centers, self.whitening)))

    def measure(self, features: Features) -> Float64[np.ndarray, " clip"]:
        """Measure how far features lie from the nearest center, as a multiple of the border: above 1 is unknown."""
        border = max(self.border, float(np.finfo(np.float32).tiny))
        distances: np.ndarray = _measure(features, self.centers, self.whitening) / border
        return distances


@dataclass(frozen=True, eq=False)
class Calibration:
    """Hold what clips that were not trained on said about a classifier's answers."""

    temperature: float
    """What logits are divided by."""
    scores: Float64[np.ndarray, " clip"]
    """How unlikely the true class of each clip seemed (1 - probability), ascending; none in multi-label tasks."""
    n: int
    """Clips it was measured on."""
    split: str
    """The split they were of."""
    digest: str
    """Hash of the names, labels and splits of the data."""
    weights: str
    """Hash of the weights it was measured with."""
    novelty: Novelty | None = None
    """None where no training clips were at hand, and in multi-label tasks."""

    def choose_labels(self, probabilities: Mapping[str, float], coverage: float = COVERAGE) -> tuple[str, ...] | None:
        """List the classes that may be the true one, likeliest first, so that it is among them as often as asked.

        The best class is always among them: a set without any would say less than the classifier does. With too few
        clips for a coverage all classes are; `explain_lack` says so.

        Args:
            probabilities: of every class, after the temperature.
            coverage: share of clips whose set shall hold the true class, 0..1 without the ends.

        Returns:
            None in multi-label tasks.

        Source: Sadinle, Lei, Wasserman, Least Ambiguous Set-Valued Classifiers with Bounded Error Levels, JASA 2019.
        """
        limit = self.find_limit(coverage)
        if not len(self.scores):
            return None
        ranked = sorted(probabilities, key=lambda name: -probabilities[name])
        return tuple(name for name in ranked if name == ranked[0] or 1 - probabilities[name] <= limit)

    def find_limit(self, coverage: float) -> float:
        """Find how unlikely a class may seem and still be in a label set; infinite where there are too few clips.

        Over clips like those of the calibration, 1 - p(true class) stays within it in `coverage` to `coverage +
        1 / (n + 1)` of cases: whatever the classifier is like.

        Raises:
            ConfigError: a coverage that is no share.
        """
        check_coverage(coverage)
        rank = _rank(len(self.scores), coverage)
        return float(self.scores[rank - 1]) if rank <= len(self.scores) else math.inf

    def explain_lack(self, coverage: float = COVERAGE) -> str:
        """Say that there were too few clips for label sets of a coverage, where that is so."""
        if not len(self.scores) or math.isfinite(self.find_limit(coverage)):
            return ""
        least = math.ceil(coverage / (1 - coverage) - 1e-9)
        return (
            f"label sets of a coverage of {coverage:.4g} need a calibration on at least {least} clips, this one had "
            f"{self.n}: every set holds all classes"
        )

    def to_values(self) -> dict[str, Any]:
        """Turn all but the arrays into JSON values."""
        return {name: getattr(self, name) for name in _VALUES}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Name the arrays."""
        return {"scores": self.scores, **(vars(self.novelty) if self.novelty else {})}

    @classmethod
    def from_parts(cls, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "Calibration":
        """Rebuild from what `to_values` and `to_arrays` gave.

        Raises:
            KeyError, TypeError: something is missing, or of another kind.
        """
        rest = dict(arrays)
        scores = rest.pop("scores")
        return cls(**{name: values[name] for name in _VALUES}, scores=scores, novelty=Novelty(**rest) if rest else None)


_VALUES = ("temperature", "n", "split", "digest", "weights")


def check_coverage(coverage: float) -> None:
    """Raise `ConfigError` for a coverage that is no share of clips."""
    if not 0 < coverage < 1:
        raise ConfigError(f"a coverage must lie between 0 and 1 - found {coverage} - 0.9 is usual.")


def fit_temperature(logits: Logits, labels: Int64[np.ndarray, " clip"]) -> float:
    """Find the temperature that makes probabilities as right as they can be made: of the least cross-entropy.

    The order of the classes stays. The cross-entropy is convex in 1 / T, so that halving an interval finds its least.
    The labels count as true but for one clip more than there are (as Platt smoothed his): clips that are all right
    would otherwise make every future answer certain. Where that would raise the cross-entropy, the temperature is 1.

    Args:
        logits: of clips that were not trained on.
        labels: their classes.

    Example:
        >>> logits = np.array([[3.0, 0.0], [3.0, 0.0], [0.0, 3.0], [0.0, 3.0]])
        >>> fit_temperature(logits, np.array([0, 0, 1, 0])) > 2
        True

    Source: Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017; Platt, Probabilistic
    Outputs for Support Vector Machines, 1999 (the smoothing).
    """
    centered = logits.astype(np.float64)
    centered -= centered.mean(axis=1, keepdims=True)
    # Of targets (1 - e) true + e / classes; the mean over all classes is zero now.
    wanted = (1 - 1 / (len(labels) + 2)) * np.take_along_axis(centered, labels[:, None], 1).mean()
    low, high = np.log(_RANGE)
    for _ in range(60):
        middle = (low + high) / 2
        slope = (_softmax(centered / np.exp(middle)) * centered).sum(axis=1).mean() - wanted
        low, high = (middle, high) if slope > 0 else (low, middle)
    found = float(np.exp((low + high) / 2))
    return found if _cross_entropy(centered / found, labels) < _cross_entropy(centered, labels) else 1.0


def score_labels(
    logits: Logits, labels: Int64[np.ndarray, " clip"], temperature: float
) -> Float64[np.ndarray, " clip"]:
    """Compute how unlikely the true class of each clip seems, 1 - probability, ascending."""
    shares = _softmax(logits.astype(np.float64) / temperature)
    return np.sort(1 - np.take_along_axis(shares, labels[:, None], 1)[:, 0])


def fit_novelty(features: Features, labels: Int64[np.ndarray, " clip"]) -> Novelty:
    """Learn where the known classes lie; `draw_border` then tells how far clips of theirs stray.

    Args:
        features: what the head reads, of training clips.
        labels: their classes.

    Source: Lee, Lee, Lee, Shin, A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS 2018.
    """
    centers = np.stack([features[labels == label].mean(axis=0, dtype=np.float64) for label in np.unique(labels)])
    residuals = features - centers[np.unique(labels, return_inverse=True)[1]]
    # Whitening by the inverse covariance: W W' = inverse, so that |x W| is the Mahalanobis distance.
    whitening = np.linalg.cholesky(np.linalg.inv(_shrink_covariance(residuals))).astype(np.float32)
    centers = (centers @ whitening).astype(np.float32)
    return Novelty(centers, whitening, np.zeros(0))


def _shrink_covariance(rows: Float64[np.ndarray, "clip dim"]) -> Float64[np.ndarray, "dim dim"]:
    """Estimate a covariance from few rows: as much of it as they can tell, the rest alike in every direction.

    Source: Ledoit, Wolf, A Well-Conditioned Estimator for Large-Dimensional Covariance Matrices, JMA 88 (2004).
    """
    count, dim = rows.shape
    sample = rows.T @ rows / count
    scale = float(np.trace(sample)) / dim
    even = scale * np.eye(dim)
    spread = float(((sample - even) ** 2).sum())
    noise = (float(((rows**2).sum(axis=1) ** 2).sum()) / count - float((sample**2).sum())) / count
    share = min(max(noise / spread, 0.0), 1.0) if spread > 0 else 1.0
    floor = np.finfo(np.float32).eps * max(scale, np.finfo(np.float32).tiny)
    shrunk: np.ndarray = (1 - share) * sample + share * even + floor * np.eye(dim)
    return shrunk


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _cross_entropy(logits: np.ndarray, labels: Int64[np.ndarray, " clip"]) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    true = np.take_along_axis(shifted, labels[:, None], 1)[:, 0]
    return float((np.log(np.exp(shifted).sum(axis=1)) - true).mean())


def _measure(features: np.ndarray, centers: np.ndarray, whitening: np.ndarray) -> Float64[np.ndarray, " clip"]:
    rows, places = features.astype(np.float64) @ whitening, centers.astype(np.float64)
    squares = (rows**2).sum(1)[:, None] - 2 * rows @ places.T + (places**2).sum(1)
    nearest: np.ndarray = np.sqrt(np.maximum(squares, 0).min(axis=1))
    return nearest


def _rank(count: int, share: float) -> int:
    """Return which of `count` ascending values (from 1) a further one stays below with at least the share asked."""
    return math.ceil((count + 1) * share - 1e-9)
