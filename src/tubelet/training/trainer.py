"""Train one classifier from its first epoch, or from where it was interrupted, to its end and its figures."""

import copy
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tubelet.classifier import Classifier
from tubelet.data.dataset import Batch
from tubelet.data.features import check_kind
from tubelet.data.manifest import Manifest
from tubelet.errors import DataError, TrainingError
from tubelet.evaluation.calibrate import calibrate
from tubelet.evaluation.evaluate import Report, evaluate
from tubelet.models import create_model
from tubelet.models.adapters import merge_adapters
from tubelet.prediction.devices import choose_precision
from tubelet.recipes.recipe import Recipe
from tubelet.report.figures import draw_class_distribution
from tubelet.shapes import Task
from tubelet.training.feeding import Feeding
from tubelet.training.finetuning import Freezing
from tubelet.training.loop import Classification, MultilabelClassification, Totals, validate
from tubelet.training.progress import Listener
from tubelet.training.ranks import ALONE, Ranks
from tubelet.training.run import Run
from tubelet.training.session import Session, describe_epoch, list_sizes
from tubelet.training.teacher import load_teacher
from tubelet.transforms.policy import warn_of_mirrors

__all__ = ["Trainer", "make_classification", "weigh_classes"]


FIGURES: Mapping[Task, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "classification": {"train": ("loss", "top1"), "val": ("loss", "top1")},
        "multilabel": {"train": ("loss",), "val": ("loss", "mean_ap")},
    }
)
"""For each task, what metrics.csv says of the training clips and of the held-out ones."""


class Trainer(Session[Recipe]):
    """Teach a classifier its classes, keep the weights of the best epoch or the last, and judge them."""

    def __init__(self, run: Run, recipe: Recipe, manifest: Manifest, listener: Listener, ranks: Ranks = ALONE) -> None:
        manifest = manifest if recipe.model.task == "auto" else manifest.with_task(recipe.model.task)
        self.figures = FIGURES[manifest.task]
        check_kind(manifest, recipe.input)
        recipe.augmentation.check_classes(manifest.classes)
        _check_judged(manifest)
        _check_choice(manifest)
        super().__init__(run, recipe, manifest, listener, ranks)
        self.precision = choose_precision(recipe.training.precision, self.device)

    def execute(self, *, is_resumed: bool) -> None:
        """Train to the last epoch, or until patience ends."""
        picture = self.run.folder / "class_distribution.png"
        if self.ranks.is_main and not picture.exists():
            draw_class_distribution(self.manifest.counts(), picture)
        super().execute(is_resumed=is_resumed)

    def judge(self) -> Report | None:
        """Calibrate the kept weights on validation clips, and evaluate them on the clips that were held out."""
        self._calibrate()
        split = _find_judged(self.manifest)
        if split is None:
            return None
        report = evaluate(
            self.run.folder,
            self.manifest,
            split=split,
            output=self.run.folder,
            decoder=self.recipe.data.decoder,
            workers=self.recipe.data.workers,
            device=self.recipe.training.device,
        )
        figures = {name: value for name, value in report.headline_figures().items() if isinstance(value, float)}
        self.run.log("evaluate", split=split, **figures, n=report.n, n_failed=report.n_failed)
        return report

    def _calibrate(self) -> None:
        if not (self.recipe.training.calibrate and self.manifest.select("val")):
            return
        data = self.recipe.data
        try:
            found = calibrate(
                self.run.folder,
                self.manifest,
                decoder=data.decoder,
                workers=data.workers,
                device=self.recipe.training.device,
            )
        except DataError as error:  # the weights are good for all that; and whoever wants it can try again
            self._remark(str(error))
        else:
            self.run.log("calibrate", temperature=found.temperature, n=found.n)

    def _make_task(self) -> Classification:
        clips = self.manifest.select("train")
        task = make_classification(
            self.recipe, self.manifest.counts()["train"], len(clips), self.manifest.task, self.device
        )
        self.classifier = task.classifier
        return task

    def _make_feeding(self) -> Feeding:
        strata = None
        if self.recipe.loss.balance == "sampler":
            if self.manifest.task == "multilabel":
                raise TrainingError(
                    "loss.balance sampler needs clips of one class each - found several labels a clip - set it to loss."
                )
            strata = [self.manifest.classes.index(sample.label) for sample in self.manifest.select("train")]
        return Feeding(self.recipe, self.manifest, self.ranks, strata)

    def _choose_moving(self) -> Callable[[int], None] | None:
        freezing = Freezing(self.model, self.recipe.finetuning)
        if text := freezing.describe():
            self._log("finetuning", moving=text)
        return freezing.start_epoch

    def _list_remarks(self) -> list[str]:
        remarks = [*self.manifest.notes, *warn_of_mirrors(self.recipe.augmentation, self.manifest.classes)]
        head_epochs, epochs = self.recipe.finetuning.head_epochs, self.recipe.training.epochs
        if head_epochs >= epochs:
            remarks.append(
                f"the head alone moves in all {epochs} epochs, by finetuning.head_epochs {head_epochs}: give more "
                "epochs, or set it to 0"
            )
        return remarks

    def _validate(self, batches: Iterable[Batch]) -> Totals:
        return validate(self.classifier, batches, self.precision)

    def _is_best(self, held_out: Totals | None) -> bool:
        better = super()._is_best(held_out)
        if self.recipe.training.keep == "best":
            return better
        if held_out is not None:
            self.progress.best, self.progress.best_loss = held_out.top1, held_out.loss
        return True

    def _keep(self, row: dict[str, float], model: Any) -> None:
        if self.progress.best_epoch == self.progress.epoch:
            if self.recipe.finetuning.adapter_rank:
                model = merge_adapters(copy.deepcopy(model))
            own = self.classifier
            classifier = Classifier(model, own.input_spec, own.classes, own.task)
            classifier.save(self.run.model_path, describe_epoch(row))


def _find_judged(manifest: Manifest) -> str | None:
    """Name the split that the kept weights are judged on; None where nothing is held out."""
    return next((split for split in ("test", "val") if manifest.select(split)), None)


def _check_choice(manifest: Manifest) -> None:
    """Refuse clips among which there is nothing to tell apart.

    Raises:
        TrainingError: there is one class, and each clip is of it.
    """
    if manifest.task == "classification" and len(manifest.classes) == 1:
        raise TrainingError(
            f"cannot train on {manifest.origin} - all its clips are '{manifest.classes[0]}' - add clips of another "
            "class, such as clips in which it does not happen."
        )


def _check_judged(manifest: Manifest) -> None:
    """Say before the first epoch that the last one could not be judged."""
    split = _find_judged(manifest)
    if manifest.task == "multilabel" and split and not any(sample.labels for sample in manifest.select(split)):
        raise TrainingError(
            f"cannot train on {manifest.origin} - no clip of '{split}' has a class, so that nothing could be measured "
            "- choose other clips for it."
        )


def make_classification(
    recipe: Recipe, counts: Mapping[str, int], clips: int, kind: Task, device: torch.device
) -> Classification:
    """Make the model of a recipe, with fresh weights, and say what it learns.

    Args:
        recipe: of the training.
        counts: training clips of each class, in index order.
        clips: training clips in all.
        kind: whether a clip has one class, or any number of them.
        device: where to train.

    Raises:
        TrainingError: a teacher that cannot teach this.
        CheckpointError: no teacher where the recipe says.
    """
    classes = tuple(counts)
    sizes: dict[str, Any] = {**list_sizes(recipe.input), **recipe.model.changes}
    model = create_model(recipe.model.name, num_classes=len(classes), **sizes)
    if recipe.training.checkpointing:
        model.checkpoint_activations()
    classifier = Classifier(model.to(device), recipe.input, classes, kind)
    weights = weigh_classes(counts, clips, kind) if recipe.loss.balance == "loss" else None
    teacher = load_teacher(recipe, classifier) if recipe.loss.teacher else None
    return (MultilabelClassification if kind == "multilabel" else Classification)(classifier, recipe, weights, teacher)


def weigh_classes(counts: Mapping[str, int], clips: int, kind: Task = "classification") -> Float[Tensor, " classes"]:
    """Weigh classes by how rare they are, so that each counts alike: 1 on average over the clips.

    In multi-label sets a class competes with its own absence: its presence weighs as often as it is absent for each
    time that it is there. Classes without clips weigh 1.

    Example:
        >>> weigh_classes({"rare": 1, "frequent": 3}, clips=4).tolist()
        [2.0, 0.6666666865348816]
    """
    numbers = torch.tensor(list(counts.values()), dtype=torch.float64)
    present = int((numbers > 0).sum())
    weights = (clips - numbers) / numbers if kind == "multilabel" else clips / (present * numbers)
    return torch.where(numbers > 0, weights, 1.0).float()
