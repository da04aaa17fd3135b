"""Train one classifier from its first epoch, or from where it was interrupted, to its end and its figures."""

from typing import Any

from tubelet.classifier import Classifier
from tubelet.data.features import check_kind
from tubelet.data.manifest import Manifest
from tubelet.evaluation.evaluate import Report, evaluate
from tubelet.models import create_model
from tubelet.prediction.devices import choose_precision
from tubelet.recipes.recipe import Recipe
from tubelet.report.figures import draw_class_distribution
from tubelet.training.loop import Classification, Totals, validate
from tubelet.training.progress import Listener
from tubelet.training.run import Run
from tubelet.training.session import Loader, Session, describe_epoch, list_sizes
from tubelet.transforms.policy import warn_of_mirrors

__all__ = ["Trainer"]


class Trainer(Session[Recipe]):
    """Teach a classifier its classes, keep the weights of the best epoch or the last, and judge them."""

    figures = ("loss", "top1")

    def __init__(self, run: Run, recipe: Recipe, manifest: Manifest, listener: Listener) -> None:
        check_kind(manifest, recipe.input)
        recipe.augmentation.check_classes(manifest.classes)
        super().__init__(run, recipe, manifest, listener)
        self.precision = choose_precision(recipe.training.precision, self.device)

    def execute(self, *, is_resumed: bool) -> None:
        """Train to the last epoch, or until patience ends."""
        if not is_resumed:
            draw_class_distribution(self.manifest.counts(), self.run.folder / "class_distribution.png")
        super().execute(is_resumed=is_resumed)

    def judge(self) -> Report | None:
        """Evaluate the kept weights on the clips that were held out."""
        held_out = [split for split in ("test", "val") if self.manifest.select(split)]
        if not held_out:
            return None
        report = evaluate(
            self.run.folder,
            self.manifest,
            split=held_out[0],
            output=self.run.folder,
            decoder=self.recipe.data.decoder,
            workers=self.recipe.data.workers,
            device=self.recipe.training.device,
        )
        self.run.log("evaluate", split=held_out[0], top1=report.metrics.top1, n=report.n, n_failed=report.n_failed)
        return report

    def _make_task(self) -> Classification:
        recipe = self.recipe
        sizes: dict[str, Any] = {**list_sizes(recipe.input), **recipe.model.changes}
        model = create_model(recipe.model.name, num_classes=len(self.manifest.classes), **sizes)
        if recipe.training.checkpointing:
            model.checkpoint_activations()
        self.classifier = Classifier(model.to(self.device), recipe.input, self.manifest.classes)
        return Classification(self.classifier, recipe)

    def _list_remarks(self) -> list[str]:
        return [*self.manifest.notes, *warn_of_mirrors(self.recipe.augmentation, self.manifest.classes)]

    def _validate(self, loader: Loader) -> Totals:
        return validate(self.classifier, loader, self.precision)

    def _is_best(self, held_out: Totals | None) -> bool:
        better = super()._is_best(held_out)
        if self.recipe.training.keep == "best":
            return better
        if held_out is not None:
            self.progress.best, self.progress.best_loss = held_out.top1, held_out.loss
        return True

    def _keep(self, row: dict[str, float]) -> None:
        if self.progress.best_epoch == self.progress.epoch:
            self.classifier.save(self.run.model_path, describe_epoch(row))
