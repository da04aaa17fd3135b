"""Write predictions as the rows of a table: one row a source, a column for each class, an error in the last one."""

from collections.abc import Sequence

from tubelet.data.sample import SEPARATOR
from tubelet.prediction.predict import Outcome, PredictionError
from tubelet.scorer import Scorer

__all__ = ["list_cells", "list_columns"]


def list_columns(classifier: Scorer) -> list[str]:
    """Name the columns of a classifier's table."""
    label = "labels" if classifier.task == "multilabel" else "label"
    scores = [f"score:{name}" for name in sorted(classifier.classes)]
    return ["source", label, "score", "label_set", "distance", "is_unknown", *scores, "error"]


def list_cells(outcome: Outcome, classes: Sequence[str]) -> list[str]:
    """Write the row of a source; probabilities have six digits."""
    if isinstance(outcome, PredictionError):
        return [outcome.source, *[""] * (5 + len(classes)), f"{outcome.code}: {outcome.message}"]
    far = ("", "") if outcome.distance is None else (f"{outcome.distance:.4f}", str(outcome.is_unknown).lower())
    labels, label_set = SEPARATOR.join(sorted(outcome.labels)), SEPARATOR.join(outcome.label_set or ())
    scores = (f"{outcome.scores[name]:.6f}" for name in sorted(classes))
    return [outcome.source, labels, f"{outcome.score:.6f}", label_set, *far, *scores, ""]
