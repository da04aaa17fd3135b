"""Print what embeddings and lessons say."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from tubelet.cli.tables import print_json
from tubelet.data.dataset import BadSample
from tubelet.teaching.embeddings import Embeddings, Neighbor
from tubelet.teaching.teach import Lesson

__all__ = ["print_embeddings", "print_lesson"]


def print_embeddings(found: Embeddings, near: Sequence[Neighbor], written: Path | None, *, as_json: bool) -> None:
    """Print how many clips there are, and those most alike."""
    if as_json:
        own: dict[str, Any] = {"n": len(found.names), "dim": found.features.shape[1], "weights": found.weights}
        own |= {"nearest": [one._asdict() for one in near], "failed": [asdict(bad) for bad in found.failed]}
        print_json(own)
        return
    console = Console(highlight=False, soft_wrap=True)
    where = f", written to {written}" if written else ""
    console.print(f"{len(found.names)} clips, {found.features.shape[1]} features each{where}", markup=False)
    for one in near:
        console.print(f"  {one.similarity:6.3f}  {one.name}", markup=False)
    _print_failed(console, found.failed)


def print_lesson(lesson: Lesson, folder: Path, top: int, *, as_json: bool) -> None:
    """Print how well clips are told that were left out, and which clips to label next."""
    if as_json:
        ends = lesson.interval and (lesson.interval.low, lesson.interval.high)
        own: dict[str, Any] = {"accuracy_left_out": lesson.accuracy, "interval_95": ends, "n": lesson.n}
        own |= {"classes": list(lesson.classifier.classes), "seconds": round(lesson.seconds, 3)}
        own |= {"uncertain": [one._asdict() for one in lesson.uncertain[:top]]}
        print_json({**own, "failed": [asdict(bad) for bad in lesson.failed], "folder": str(folder)})
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{lesson.headline()} -> {folder}", markup=False)
    if lesson.uncertain[:top]:
        console.print("worth labelling next, the least certain first:")
    for one in lesson.uncertain[:top]:
        console.print(f"  {one.margin:5.3f}  {one.label}?  {one.name}", markup=False)
    _print_failed(console, lesson.failed)


def _print_failed(console: Console, failed: Sequence[BadSample]) -> None:
    for bad in failed:
        console.print(f"failed: {bad.message}", markup=False, style="red")
