"""Hold what a comparison of models found, and write it as JSON, markdown and CSV."""

import csv
import io
from dataclasses import asdict, dataclass
from typing import Any

from tubelet.evaluation.cost import Cost
from tubelet.metrics import Interval, McNemar, PairedDifference

__all__ = ["Comparison", "Entry", "Flip", "Pair"]


@dataclass(frozen=True)
class Entry:
    """State what is known about one model."""

    name: str
    accuracy: float
    interval: Interval | None
    """95 % interval of the accuracy, over clips (Wilson's) or whole groups of them (bootstrap)."""
    top_k: float
    k: int
    """5, or the number of classes where there are fewer."""
    macro_f1: float
    n: int
    n_failed: int
    cost: Cost
    size_mb: float | None
    """Size of the model folder in megabytes; None for a model that lies elsewhere."""
    is_stored: bool
    """Whether these are the run's own test predictions, or it was evaluated anew."""
    data: str
    digest: str
    """Hash of the clips' names, labels and splits: accuracies of other clips say nothing about these."""

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values: one row of the table."""
        ends = self.interval
        return {
            "run": self.name,
            "accuracy": self.accuracy,
            "accuracy_low": ends and ends.low,
            "accuracy_high": ends and ends.high,
            "top_k": self.top_k,
            "k": self.k,
            "macro_f1": self.macro_f1,
            "n": self.n,
            "n_failed": self.n_failed,
            **asdict(self.cost),
            "size_mb": self.size_mb,
            "predictions": "stored" if self.is_stored else "evaluated now",
            "data": self.data,
            "digest": self.digest,
        }


@dataclass(frozen=True)
class Flip:
    """Name a clip on which exactly one of two models is right."""

    clip: str
    label: str
    first: str
    """What the first model says it is."""
    second: str


@dataclass(frozen=True)
class Pair:
    """State how two models differ on the clips that both were asked about."""

    first: str
    second: str
    n: int
    difference: PairedDifference
    """Accuracy of the second less that of the first, with a bootstrap interval."""
    over: str
    """What was drawn anew for it: `clips`, or whole groups."""
    test: McNemar
    flips: tuple[Flip, ...]

    def headline(self) -> str:
        """State the result in one line."""
        ends, test = self.difference.interval, self.test
        span = f" (95 % interval over {self.over} {ends.low:+.1%} to {ends.high:+.1%})" if ends else ""
        return (
            f"{self.second} - {self.first}: {self.difference.difference:+.1%}{span}, McNemar p = {test.p_value:.3g}; "
            f"of {self.n} clips only {self.first} has {test.only_a} right, only {self.second} {test.only_b}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        ends = self.difference.interval
        return {
            "first": self.first,
            "second": self.second,
            "n": self.n,
            "difference": self.difference.difference,
            "interval_95": ends and [ends.low, ends.high],
            "interval_over": self.over,
            "mcnemar_p": self.test.p_value,
            "only_first_right": self.test.only_a,
            "only_second_right": self.test.only_b,
            "flips": [asdict(flip) for flip in self.flips],
        }


@dataclass(frozen=True)
class Comparison:
    """Hold a table of models, and what tells two of them apart."""

    entries: tuple[Entry, ...]
    pairs: tuple[Pair, ...]
    refused: tuple[str, ...]
    """Why two models could not be compared clip by clip."""
    remarks: tuple[str, ...]
    """What makes the figures say less than they seem to."""

    def to_dict(self) -> dict[str, Any]:
        """Turn into JSON values."""
        return {
            "runs": [entry.to_dict() for entry in self.entries],
            "pairs": [pair.to_dict() for pair in self.pairs],
            "refused": list(self.refused),
            "remarks": list(self.remarks),
        }

    def list_cells(self) -> tuple[tuple[str, ...], ...]:
        """List the table as text, its head first."""
        head = ("run", "accuracy", "95 % interval", "top-k", "macro F1", "parameters", "GMACs")
        rows = [(*head, "clips/s", "frames/s", "MB", "clips", "predictions")]
        for entry in self.entries:
            ends, cost = entry.interval, entry.cost
            span = f"{ends.low:.1%} to {ends.high:.1%}" if ends else "-"
            figures = (f"{entry.accuracy:.1%}", span, f"{entry.top_k:.1%} (k={entry.k})", f"{entry.macro_f1:.3f}")
            costs = (
                f"{cost.parameters:,}",
                "-" if cost.gmacs is None else f"{cost.gmacs:.3g}",
                f"{cost.clips_per_s:,.1f}",
                f"{cost.frames_per_s:,.0f}",
            )
            size = "-" if entry.size_mb is None else f"{entry.size_mb:.1f}"
            source = "stored" if entry.is_stored else "evaluated now"
            rows.append((entry.name, *figures, *costs, size, str(entry.n), source))
        return tuple(rows)

    def to_markdown(self) -> str:
        """Write the table, and a line for each pair."""
        head, *rows = (" | ".join(cell.replace("|", "\\|") for cell in cells) for cells in self.list_cells())
        rule = " | ".join("---" for _ in self.list_cells()[0])
        lines = [f"| {row} |" for row in (head, rule, *rows)]
        notes = (*(pair.headline() for pair in self.pairs), *self.refused, *self.remarks)
        return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])

    def to_csv(self) -> str:
        """Write one row a run, with full digits."""
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(self.entries[0].to_dict()), lineterminator="\n")
        writer.writeheader()
        writer.writerows(entry.to_dict() for entry in self.entries)
        return stream.getvalue()
