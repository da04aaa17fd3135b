"""Keep where a run is, so that it can go on bit by bit: weights, what moves them, and how far it got."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tubelet.config import flatten
from tubelet.data.manifest import Manifest
from tubelet.errors import TrainingError
from tubelet.recipes.pretraining import AnyRecipe
from tubelet.training.averaging import WeightAverage
from tubelet.training.ranks import ALONE, Ranks
from tubelet.training.run import Progress, Run, save_checkpoint
from tubelet.training.shards import read_shards, write_shards

__all__ = ["FREE_FIELDS", "Checkpoints", "Moving"]

FREE_FIELDS = frozenset(
    [f"data.{name}" for name in ("workers", "cache_mb", "cache_folder", "timeout_s", "source", "download")]
    + [f"training.{name}" for name in ("device", "checkpointing", "auto_microbatch", "on_failure", "calibrate")]
)
"""Fields of the recipe that may change on resume: they decide where and how fast, not what."""


@dataclass(frozen=True, eq=False)
class Moving:
    """Hold all that changes with every step."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: WeightAverage | None
    shards: Path | None = None
    """Folder of the tensors, where the model is shared out over processes."""

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint holds."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave, or what was made of it by `write_shards`."""
        if self.shards is not None:
            state = read_shards(self.shards, state, self._find_like)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state.get("scaler", {}))
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def _find_like(self, place: tuple[str | int, ...]) -> Tensor:
        """Find the weight that lies where a tensor of the state belongs."""
        if place[0] != "optimizer":
            weight: Tensor = self.model.state_dict()[str(place[-1])]
            return weight
        moved = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        parameter: Tensor = moved[int(place[2])]
        return parameter


class Checkpoints:
    """Write and read the checkpoints of one run, and refuse those of another."""

    def __init__(self, run: Run, recipe: AnyRecipe, manifest: Manifest, ranks: Ranks = ALONE) -> None:
        self._run = run
        self._recipe = recipe
        self._manifest = manifest
        self._ranks = ranks

    def write(self, moving: Moving, progress: Progress) -> None:
        """Keep where the run is; the checkpoint before stays beside it. All processes call it."""
        if moving.shards is None:
            if self._ranks.is_main:
                self._save(moving.state_dict(), progress)
            return
        state = write_shards(moving.shards, moving.state_dict(), self._ranks)
        if self._ranks.is_main:
            self._save(state, progress)
            self._run.remove_unused_shards()

    def read(self) -> tuple[dict[str, Any] | None, str]:
        """Read the last intact checkpoint: None where there is none yet; and what is to be said about it.

        Raises:
            TrainingError: clips, labels, splits or recipe are no longer those that the run was started with.
            CheckpointError: there are some, and none is intact.
        """
        checkpoint, remark = self._run.read_checkpoint()
        if checkpoint is not None:
            self._check(checkpoint["contract"])
        return checkpoint, remark

    def _save(self, state: Mapping[str, Any], progress: Progress) -> None:
        contract = self._make_contract()
        save_checkpoint(self._run.checkpoint_path, {**state, "progress": progress.to_plain(), "contract": contract})

    def _make_contract(self) -> dict[str, Any]:
        """State what must be the same when the run goes on."""
        fixed = {key: repr(value) for key, value in flatten(self._recipe).items() if key not in FREE_FIELDS}
        return {"classes": list(self._manifest.classes), "digest": self._manifest.digest, "recipe": fixed}

    def _check(self, stored: Mapping[str, Any]) -> None:
        present = self._make_contract()
        if stored["digest"] != present["digest"]:
            raise TrainingError(
                f"cannot resume {str(self._run.folder)!r} - its clips, labels or splits have changed since - "
                "restore them, or start a new run."
            )
        changed = [key for key, value in stored["recipe"].items() if present["recipe"].get(key) != value]
        if changed:
            raise TrainingError(
                f"cannot resume {str(self._run.folder)!r} - {', '.join(changed)} in its config.yaml changed since - "
                "restore the file, or start a new run."
            )
