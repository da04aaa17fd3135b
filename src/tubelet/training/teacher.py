"""Read the model whose answers another one learns."""

from tubelet.classifier import Classifier
from tubelet.errors import TrainingError
from tubelet.prediction.load import load_classifier
from tubelet.recipes.recipe import Recipe

__all__ = ["load_teacher"]

ALIKE = ("kind", "frames", "height", "width", "channels", "sampling", "stride", "rate_fps", "window", "spacing_mm")
"""What of the input contract must be the same, so that both see the same clips; each normalizes them by itself."""


def load_teacher(recipe: Recipe, learner: Classifier) -> Classifier:
    """Load the run that `loss.teacher` names, on the learner's device, never to be trained.

    Raises:
        CheckpointError: no model there, or a damaged one.
        TrainingError: it knows other classes, or looks at other clips than the one that learns from it.
    """
    teacher = load_classifier(recipe.loss.teacher, device=str(learner.device))
    if (teacher.classes, teacher.task) != (learner.classes, learner.task):
        raise TrainingError(
            f"cannot learn from {recipe.loss.teacher!r} - it knows {_name(teacher.classes)} ({teacher.task}), and the "
            f"clips have {_name(learner.classes)} ({learner.task}) - choose one that was trained on the same classes."
        )
    for name in ALIKE:
        seen, wanted = getattr(teacher.input_spec, name), getattr(learner.input_spec, name)
        if seen != wanted:
            raise TrainingError(
                f"cannot learn from {recipe.loss.teacher!r} - it looks at clips with input.{name} {seen}, this recipe "
                f"has {wanted} - set input.{name} to {seen}."
            )
    teacher.model.requires_grad_(False)
    return teacher


def _name(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:5]) + (f" and {len(classes) - 5} more" if len(classes) > 5 else "")
