"""Measure whether a map is true: take away what it calls important, and see whether the class goes with it.

    deletion    tubes are taken out, the most important first: the sooner the class's score falls, the better the map
    insertion   tubes are put back into the empty clip, the most important first: the sooner it rises, the better

Both are areas under the score, from 0 to 1. By themselves they say more of the model than of the map; so they stand
beside that of random maps on the same clip.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from tubelet.explanation.occlusion import make_variants, plan_tubes
from tubelet.explanation.question import Question
from tubelet.shapes import Size3

__all__ = ["Faithfulness", "measure_faithfulness"]

STEPS = 10
"""Parts in which tubes are taken away."""
SEED = 42
LEAST = 0.01
"""Of a probability: smaller differences tell nothing, as the score hardly depends on the clip."""


@dataclass(frozen=True)
class Faithfulness:
    """State how the class's score goes when tubes are taken out or put in by a map, and by lot."""

    deletion: float
    """Mean score while tubes are taken out, the most important first; low is good."""
    insertion: float
    """Mean score while tubes are put in, the most important first; high is good."""
    random: float
    """Mean score of random maps: the same for both, since what a lot takes out, the lot read backward puts in."""
    deletion_wins: int
    """Random maps whose deletion is higher."""
    insertion_wins: int
    """Random maps whose insertion is lower."""
    random_maps: int
    deletion_curve: tuple[float, ...]
    """The score with 0, 1/10, ... all of the tubes taken out."""
    insertion_curve: tuple[float, ...]
    """The score with 0, 1/10, ... all of the tubes put in."""

    @property
    def is_better(self) -> bool:
        """Say whether the map does better than random maps, both ways, by more than a score moves anyway."""
        return min(self.random - self.deletion, self.insertion - self.random) > LEAST

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {"is_better": self.is_better, **values}

    def describe(self) -> str:
        """Say it in one line."""
        verdict = "better than random maps" if self.is_better else "NO BETTER than random maps, do not believe it"
        return (
            f"{verdict}: deletion {self.deletion:.3f} (beats {self.deletion_wins} of {self.random_maps}), insertion "
            f"{self.insertion:.3f} (beats {self.insertion_wins} of {self.random_maps}), random {self.random:.3f}"
        )


def measure_faithfulness(
    question: Question, saliency: Float32[Tensor, "t h w"], *, random_maps: int = 10
) -> Faithfulness:
    """Compare a map with random ones by deletion and insertion.

    Tubes are those of `plan_tubes`, whatever grid the map has, and are replaced as in `occlude`.

    Args:
        question: what is explained.
        saliency: the map.
        random_maps: orders drawn by lot; a new one each time, the same at each call.

    Cost: 20 + 9 * `random_maps` forward passes.

    Source: arXiv 1806.07421, section 4.2.
    """
    size = plan_tubes(Size3(*question.clip.shape[:3]))
    ratings = F.adaptive_avg_pool3d(saliency[None, None], size).flatten()
    generator = torch.Generator().manual_seed(SEED)
    tie, *lots = (torch.randperm(len(ratings), generator=generator) for _ in range(random_maps + 1))
    order = tie[ratings[tie].argsort(descending=True, stable=True)]
    # What a lot leaves of the clip by deletion is what the reversed lot, just as random, has put in by insertion.
    removals = [_remove(order), ~_remove(order), *map(_remove, lots)]
    inner = torch.cat([rows[1:-1] for rows in removals])
    ends = removals[0][[0, -1]]
    variants = torch.cat([ends, inner]).reshape(-1, *size)
    every = torch.cat([question.classifier.score(clips) for clips in make_variants(question, variants)])
    scores = every[:, question.label].cpu()
    whole, empty = scores[0].expand(len(removals), 1), scores[1].expand(len(removals), 1)
    curves = torch.cat([whole, scores[2:].reshape(len(removals), STEPS - 1), empty], dim=1)
    curves[1] = curves[1].where(torch.arange(STEPS + 1) % STEPS > 0, curves[1].flip(0))  # goes from empty to whole
    deletion, insertion, *lots = torch.trapezoid(curves, dx=1 / STEPS).tolist()
    return Faithfulness(
        deletion=deletion,
        insertion=insertion,
        random=math.fsum(lots) / random_maps,
        deletion_wins=sum(lot > deletion for lot in lots),
        insertion_wins=sum(lot < insertion for lot in lots),
        random_maps=random_maps,
        deletion_curve=tuple(curves[0].tolist()),
        insertion_curve=tuple(curves[1].tolist()),
    )


def _remove(order: Int64[Tensor, " tube"]) -> Bool[Tensor, "step tube"]:
    """Return which tubes are gone after each step, from none to all."""
    count = len(order)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(count)
    borders = torch.linspace(0, count, STEPS + 1).round()
    return rank[None] < borders[:, None]
