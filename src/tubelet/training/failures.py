"""Decide what happens to a step whose loss or gradient is no number, and keep what is needed to look into it.

failure.ckpt   the weights before the step, its clips and their names: `tubelet replay RUN` takes the step again
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tubelet import files
from tubelet.data.dataset import Batch
from tubelet.data.manifest import Manifest
from tubelet.errors import TrainingError
from tubelet.recipes.pretraining import AnyRecipe
from tubelet.training.ranks import ALONE, Ranks
from tubelet.training.run import Run
from tubelet.training.sharding import gather_weights
from tubelet.training.step import Failure

__all__ = ["FAILURE_NAME", "MOST_IN_A_ROW", "FailurePolicy"]

FAILURE_NAME = "failure.ckpt"
MOST_IN_A_ROW = 5
"""So many steps left out one after the other, and the run ends whatever its recipe says."""


class FailurePolicy:
    """Leave steps out, or end the run, as the recipe says.

    Args:
        run: where the evidence goes.
        recipe: `training.on_failure` decides.
        manifest: names the clips.
        model: whose weights are kept as evidence; they have not moved.
        ranks: the processes of the run; the one whose clips failed keeps the evidence, the first one logs it.
        roll_back: puts the weights of the last checkpoint back, and tells whether there was one.
        remark: told about each step that is left out.
    """

    def __init__(
        self,
        run: Run,
        recipe: AnyRecipe,
        manifest: Manifest,
        model: nn.Module,
        *,
        ranks: Ranks = ALONE,
        roll_back: Callable[[], bool],
        remark: Callable[[str], None],
    ) -> None:
        self._run = run
        self._recipe = recipe
        self._manifest = manifest
        self._model = model
        self._ranks = ranks
        self._roll_back = roll_back
        self._remark = remark
        self._final = (len(manifest.select("train")) - 1) // recipe.training.batch
        self._last = (-1, -1)
        self._in_a_row = 0

    def meet(self, failure: Failure, held: Sequence[tuple[int, Batch]]) -> None:
        """Keep the evidence, then return to leave the step out, or end the run.

        Raises:
            Failure: the recipe says so, or too many steps in a row failed.
        """
        # A gradient is that of all processes: the clips of the first stand for those of the others.
        is_witness = failure.is_own and (failure.what == "loss" or self._ranks.is_main)
        weights = gather_weights(self._model, keep=is_witness)
        evidence = self._keep_evidence(failure, held, weights) if is_witness else []
        names = [name for part in self._ranks.gather(evidence) for name in part]
        policy = self._recipe.training.on_failure
        advice = f"'tubelet replay {self._run.folder}' takes the step again and says where it went wrong"
        if policy == "raise":
            raise TrainingError(f"{failure} {advice}.") from failure
        first, last = (failure.epoch, held[0][0]), (failure.epoch, held[-1][0])
        follows = self._last == ((first[0], first[1] - 1) if first[1] else (first[0] - 1, self._final))
        self._in_a_row = self._in_a_row + 1 if follows else 1
        self._last = last
        if self._ranks.is_main:
            self._run.log("failure", epoch=failure.epoch + 1, batch=failure.number + 1, what=failure.what, clips=names)
        if self._in_a_row >= MOST_IN_A_ROW:
            raise TrainingError(f"{failure} {self._in_a_row} steps in a row were left out; {advice}.") from failure
        went_back = policy == "rollback" and self._roll_back()
        done = "left out, and the weights of the last checkpoint put back" if went_back else "left out"
        self._remark(
            f"epoch {failure.epoch + 1}, batch {failure.number + 1}: the {failure.what} is {failure.value}; "
            f"the step was {done}; {advice}"
        )

    def _keep_evidence(
        self, failure: Failure, held: Sequence[tuple[int, Batch]], weights: Mapping[str, Tensor]
    ) -> list[str]:
        """Write what the step needs to be taken again, and name its clips."""
        samples = self._manifest.select("train")
        batches: list[dict[str, Any]] = [
            {
                "number": number,
                "clips": batch.clips,
                "labels": batch.labels,
                "indices": batch.indices,
                "lengths": batch.lengths,
                "names": [self._manifest.short_name(samples[index]) for index in batch.indices.tolist()],
            }
            for number, batch in held
            if len(batch.labels)
        ]
        payload = io.BytesIO()
        torch.save(
            {
                "model": weights,
                "batches": batches,
                "epoch": failure.epoch,
                "rank": self._ranks.rank,
                "counts": self._manifest.counts()["train"],
                "clips": len(samples),
                "task": self._manifest.task,
            },
            payload,
        )
        files.write_sealed(self._run.folder / FAILURE_NAME, payload.getvalue())
        return [name for row in batches for name in row["names"]]
