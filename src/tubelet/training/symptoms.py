"""Notice a training that learns nothing: weights that stay as they are, and answers no better than a guess.

Both are said once a run, in the epoch that the length of the run decides: so a resumed run neither repeats nor misses
them, and nothing about them is stored.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tubelet.data.manifest import Manifest
from tubelet.recipes.pretraining import AnyRecipe
from tubelet.recipes.recipe import Recipe
from tubelet.training.ranks import ALONE, Ranks

__all__ = ["Stillness", "find_guessing"]

SAMPLED = 64
"""Elements of each parameter that are remembered, at least, where it has as many: enough to tell, and no copy."""
SETTLING_STEPS = 10
"""Steps before weights are judged: behind a head that begins at zero, or an adapter, there is no gradient at first."""
STILL = 0.9
"""Share of the weights, to the bit as they were, from which nothing is said to move."""
PLATEAU_CLIPS = 6000
"""Clips that small transformers may see before they rise above chance: 3,000 to 6,000 in docs/log.md."""
LUCK = 1.64
"""Standard errors that a guess exceeds once in twenty times."""


class _Look(NamedTuple):
    """Hold what was seen of one parameter, or of the part of it that one process holds."""

    name: str
    numel: int
    looked_at: int
    moved: int
    has_gradient: bool


class Stillness:
    """Find weights that do not move though they should.

    Args:
        model: what is trained.
        optimizer: moves it, and remembers its gradients.
        recipe: says when the body of a model begins to move, and how far.
        steps_per_epoch: moves of the weights in an epoch.
        ranks: the other processes; each may hold a part of the weights.

    Cost: copies of some dozen elements of each parameter, once or twice a run, and a look at what the optimizer keeps
        of its gradient: 0.1 s in all for 115 million parameters on one core.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: AnyRecipe,
        steps_per_epoch: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._ranks = ranks
        self._lr = recipe.optimizer.lr
        wait = -(-SETTLING_STEPS // steps_per_epoch) - 1
        whole = recipe.finetuning.head_epochs if isinstance(recipe, Recipe) else 0
        self._judged = {whole + wait} | ({wait} if wait < whole else set())
        self._before: dict[str, Tensor] = {}

    def start_epoch(self, epoch: int) -> None:
        """Remember some of each parameter, where this is an epoch in which weights are judged; counted from 0."""
        self._before = {}
        if epoch in self._judged:
            self._before = {name: _sample(parameter) for name, parameter in self._model.named_parameters()}

    def describe(self) -> str:
        """Say at the end of an epoch what did not move; an empty text where all is well, or not to be judged."""
        if not self._before:
            return ""
        own = [self._look_at(name, value) for name, value in self._model.named_parameters() if value.requires_grad]
        looks = [_join(parts) for parts in zip(*self._ranks.gather(own), strict=True)]
        dead = [look.name for look in looks if not look.has_gradient]
        total = sum(look.numel for look in looks)
        still = 1 - sum(look.numel * look.moved / max(look.looked_at, 1) for look in looks) / max(total, 1)
        if len(dead) == len(looks):
            return (
                f"no weight moves: no gradient reaches any of {len(looks)} parameters - look for a detach() or "
                "no_grad() in the model, and for a loss that does not depend on it."
            )
        if still >= STILL:
            kind = str(next(self._model.parameters()).dtype).removeprefix("torch.")
            return (
                f"{math.floor(still * 1000) / 10:g} % of the weights stay as they are, to the bit: steps are too small "
                f"for {kind} - raise optimizer.lr, now {self._lr:g}."
            )
        if dead:
            more = f" and {len(dead) - 3} more" if len(dead) > 3 else ""
            return (
                f"{len(dead)} of {len(looks)} parameters never get a gradient: {', '.join(dead[:3])}{more} - the model "
                "does not use them, or cuts them off by detach() or no_grad()."
            )
        return ""

    def _look_at(self, name: str, parameter: Tensor) -> _Look:
        moved = self._before[name] != _sample(parameter)
        # What an optimizer keeps of a gradient has the parameter's shape; plain SGD keeps nothing, and moves at once.
        state = self._optimizer.state.get(parameter, {})
        traces = [value for key, value in state.items() if key != "step" and isinstance(value, Tensor)]
        has_gradient = any(_is_any(trace) for trace in traces) if traces else bool(moved.any())
        return _Look(name, parameter.numel(), len(moved), int(moved.sum()), has_gradient)


def _join(parts: Sequence[_Look]) -> _Look:
    """Add up what the processes saw of one parameter."""
    looked_at, moved = sum(part.looked_at for part in parts), sum(part.moved for part in parts)
    return _Look(parts[0].name, parts[0].numel, looked_at, moved, any(part.has_gradient for part in parts))


def _sample(parameter: Tensor) -> Tensor:
    flat = _get_local(parameter).detach().reshape(-1)
    return flat[:: max(len(flat) // SAMPLED, 1)].cpu().clone()


def _is_any(trace: Tensor) -> bool:
    """Tell whether any number of a tensor is not zero; of a healthy one a few suffice."""
    return bool(_sample(trace).any()) or bool(_get_local(trace).any())


def _get_local(value: Tensor) -> Tensor:
    """Return the part of a tensor that lies in this process: all of it, unless it is shared out."""
    return value.to_local() if hasattr(value, "to_local") else value


def find_guessing(recipe: AnyRecipe, manifest: Manifest, history: Sequence[Mapping[str, float]]) -> str:
    """Say that validation is at chance where it should no longer be; an empty text otherwise.

    Looked at once, after the epoch that is the latest of: the fifth; a quarter of the run; and 6,000 clips or half of
    the run, whichever comes first. Small transformers see that many clips before they rise, and a run of fewer clips
    should say it while there is something left to stop. Chance is the share of the most frequent class among the
    validation clips: what a model gets that always says the same. The best epoch must exceed it by 1.64 standard errors
    of such a share; as it is the best of several, a model that guesses is missed now and then.

    Args:
        recipe: of the run.
        manifest: its clips.
        history: one row an epoch, with `val_top1` where clips are of one class.
    """
    clips = len(manifest.select("train"))
    epoch, epochs = len(history), recipe.training.epochs
    plateau = min(-(-PLATEAU_CLIPS // clips), -(-epochs // 2))
    if epoch != max(5, -(-epochs // 4), plateau) or "val_top1" not in history[-1]:
        return ""
    counts = manifest.counts().get("val", {})
    if sum(count > 0 for count in counts.values()) < 2:  # every answer is right, or none
        return ""
    n = sum(counts.values())
    name = max(counts, key=lambda one: counts[one])
    share = counts[name] / n
    limit = share + LUCK * math.sqrt(share * (1 - share) / n)
    best = max(row["val_top1"] for row in history)
    if best > limit:
        return ""
    seen = epoch * clips
    early = "" if seen >= PLATEAU_CLIPS else "small transformers often rise only after 3,000 to 6,000 clips; "
    pictures = ", look at augmentations.png" if recipe.augmentation.list_active() else ""
    return (
        f"validation top-1 is no better than a guess after {epoch} epochs ({seen:,} clips): {best:.1%} at best, where "
        f"always saying '{name}' has {share:.1%} of {n} clips right and luck reaches {limit:.1%} - {early}try "
        f"--overfit-batch on these clips{pictures}, another optimizer.lr than {recipe.optimizer.lr:g}, more epochs."
    )
