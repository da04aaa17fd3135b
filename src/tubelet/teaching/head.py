"""Fit a linear head to a few clips by ridge regression, and say how well it tells each of them from all the others."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from tubelet.calibration import fit_temperature

__all__ = ["FittedHead", "fit_head"]

STRENGTHS = tuple(10.0**power for power in np.arange(-4.0, 2.5, 0.5).tolist())
"""Ridge penalties that are tried, as shares of the largest variance of the features."""


class FittedHead(NamedTuple):
    """Hold a linear head, and what it says of each clip when fitted to all others."""

    weight: Float64[np.ndarray, "classes dim"]
    bias: Float64[np.ndarray, " classes"]
    left_out: Float64[np.ndarray, "clip classes"]
    """Logits."""


def fit_head(
    features: Float32[np.ndarray, "clip dim"], labels: Int64[np.ndarray, " clip"], num_classes: int
) -> FittedHead:
    """Fit a linear head by ridge regression, with the penalty and the temperature that leaving out each clip says.

    Each clip is left out in turn without solving again, as the hat matrix tells what all the others say of it.

    Args:
        features: of labelled clips, at least two.
        labels: their classes.
        num_classes: how many classes there are.

    Example:
        >>> features = np.array([[0.0], [0.2], [1.0], [1.2]], np.float32)
        >>> head = fit_head(features, np.array([0, 0, 1, 1]), 2)
        >>> (features @ head.weight.T + head.bias).argmax(1).tolist()
        [0, 0, 1, 1]

    Source: Hastie, Tibshirani, Friedman, The Elements of Statistical Learning (2009), sections 3.4.1 and 7.10.
    """
    middle = features.mean(axis=0, dtype=np.float64)
    centered = features.astype(np.float64) - middle
    left, sizes, right = _decompose(centered)
    wanted = np.eye(num_classes)[labels]
    shares = wanted.mean(axis=0)
    turned = left.T @ (wanted - shares)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for strength in STRENGTHS:
        kept = sizes**2 / (sizes**2 + strength * (sizes.max(initial=0.0) ** 2 or 1.0))
        said = shares + left @ (kept[:, None] * turned)
        leverage = 1 / len(labels) + (left**2) @ kept
        left_out = wanted - (wanted - said) / np.maximum(1 - leverage, 1e-9)[:, None]
        error = float(((wanted - left_out) ** 2).sum())
        if best is None or error < best[0]:
            best = (error, kept, left_out)
    assert best is not None
    _, kept, left_out = best
    weight = right @ ((kept / np.maximum(sizes, 1e-12))[:, None] * turned)
    temperature = fit_temperature(left_out, labels)
    bias = shares - middle @ weight
    return FittedHead(weight.T / temperature, bias / temperature, left_out / temperature)


def _decompose(
    centered: Float64[np.ndarray, "clip dim"],
) -> tuple[Float64[np.ndarray, "clip rank"], Float64[np.ndarray, " rank"], Float64[np.ndarray, "dim rank"]]:
    """Compute the singular value decomposition by the smaller of the two products, without directions of no size."""
    is_wide = centered.shape[0] <= centered.shape[1]
    squares, vectors = np.linalg.eigh(centered @ centered.T if is_wide else centered.T @ centered)
    kept = squares > 1e-10 * max(float(squares.max(initial=0.0)), 1e-300)
    sizes, vectors = np.sqrt(squares[kept]), vectors[:, kept]
    others = (centered.T if is_wide else centered) @ vectors / sizes
    return (vectors, sizes, others) if is_wide else (others, sizes, vectors)
