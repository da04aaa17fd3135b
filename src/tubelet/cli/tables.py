"""Print results: tables for people, JSON for programs."""

import csv
import errno
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tubelet import files
from tubelet.calibration import COVERAGE, Calibration
from tubelet.data.catalogue import DATASETS, find_on_disk
from tubelet.data.catalogue.shelf import describe_size
from tubelet.data.manifest import Manifest
from tubelet.doctor import Finding
from tubelet.errors import TubeletError
from tubelet.evaluation.evaluate import Report
from tubelet.explanation.explain import Explanation
from tubelet.prediction.predict import Prediction, PredictionError
from tubelet.prediction.table import list_cells, list_columns
from tubelet.scorer import Scorer
from tubelet.shapes import Task
from tubelet.training.replay import Replay

__all__ = [
    "print_calibration",
    "print_datasets",
    "print_download",
    "print_explanation",
    "print_findings",
    "print_json",
    "print_predictions",
    "print_replay",
    "print_report",
    "track",
    "track_bytes",
]


@contextmanager
def track(description: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on the terminal's error stream, so that results can be piped."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def track_bytes(
    name: str, *, quiet: bool = False
) -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """Show how much of a data set is there, and what is remarked of it, on the terminal's error stream."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[there]}"))
    console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
    with Progress(*columns, TimeRemainingColumn(compact=True), console=console, transient=True) as progress:
        task = progress.add_task(name, total=None, there="")

        def show(done: int, total: int) -> None:
            # Clips are counted in ones and bytes in millions; no data set has a million clips.
            there = f"{done:,} of {total:,}" if 0 < total < 10**6 else describe_size(done)
            progress.update(task, completed=done, total=total or None, there=there)

        yield show, lambda text: console.print(text, markup=False)


_NAMED = 5
"""Classes of a label set that are named; more are counted."""

_RANKED: Mapping[Task, Mapping[str, str]] = {
    "classification": {},
    "multilabel": {"AP": "average_precision", "AUC": "auc"},
}
"""For each task, the columns of a report that tell how clips are ranked, each with its field."""


def print_json(value: object) -> None:
    """Print one JSON value on a line of its own."""
    print(json.dumps(value, ensure_ascii=False), flush=True)  # noqa: T201


def print_report(report: Report, output: Path | None, *, as_json: bool) -> None:
    """Print the headline and the figures of each class."""
    if as_json:
        print_json(report.to_dict())
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(report.headline(), markup=False)
    console.print(report.describe(), markup=False)
    table = Table("class", box=None, header_style="bold")
    for name in (*_RANKED[report.task], "precision", "recall", "F1", "clips"):
        table.add_column(name, justify="right")
    for row in report.metrics.per_class:
        ranked = [_show(getattr(row, key)) for key in _RANKED[report.task].values()]
        table.add_row(
            escape(row.name), *ranked, _show(row.precision), _show(row.recall), _show(row.f1), str(row.support)
        )
    console.print(table)
    for remark in report.remarks:
        console.print(f"note: {remark}", style="yellow", markup=False)
    for bad in report.failed:
        console.print(bad.message, style="red", markup=False)
    if output is not None:
        console.print(f"written to {output}", markup=False)


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def print_calibration(found: Calibration, *, as_json: bool) -> None:
    """Print what was measured, and what `predict` can say from now on."""
    novelty = found.novelty
    if as_json:
        limit = found.find_limit(COVERAGE) if len(found.scores) else math.inf
        false_alarms = None if novelty is None else novelty.false_alarms
        least = 1 - limit if math.isfinite(limit) else None
        print_json({**found.to_values(), "least_probability": least, "false_alarms": false_alarms})
        return
    console = Console(highlight=False, soft_wrap=True)
    sure = "surer than it is right" if found.temperature > 1 else "less sure than it is right"
    told = f"temperature {found.temperature:.3f} by {found.n} clips of '{found.split}': the model was {sure}"
    console.print(told, markup=False)
    if not len(found.scores):
        console.print("label sets and unknown clips: not for multi-label models")
        return
    limit = found.find_limit(COVERAGE)
    sets = found.explain_lack() or f"for {COVERAGE:.0%} of clips, all classes of {1 - limit:.1%} or more"
    console.print(f"label sets: {sets}")
    if novelty is None:
        console.print("unknown clips: not told apart, as the data has no training clips")
    else:
        console.print(f"unknown clips: {novelty.false_alarms:.1%} of the clips of known classes will be called unknown")


def print_explanation(explanation: Explanation, written: Sequence[Path], *, as_json: bool) -> None:
    """Print what was explained, whether to believe it, and where the pictures are."""
    if as_json:
        print_json({**explanation.to_dict(), "files": [str(path) for path in written]})
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(explanation.describe(), markup=False)
    for path in written:
        console.print(f"written to {path}", markup=False)


def print_predictions(
    outcomes: Iterable[Prediction | PredictionError],
    classifier: Scorer,
    *,
    top: int,
    output: Path | None,
    as_json: bool,
    coverage: float = COVERAGE,
) -> int:
    """Print each outcome as soon as it is there; return 1 where some source failed, else 0."""
    console, errors = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)
    total = failed = 0
    remark = classifier.calibration.explain_lack(coverage) if classifier.calibration else ""
    if remark and not as_json:
        errors.print(f"note: {remark}", style="yellow", markup=False)
    with _open_scores(output, classifier) as write_row:
        for outcome in outcomes:
            total += 1
            write_row(outcome)
            if as_json:
                print_json(outcome.to_dict())
            if isinstance(outcome, PredictionError):
                failed += 1
                if not as_json:
                    errors.print(outcome.message, style="red", markup=False)
            elif not as_json:
                console.print(f"{outcome.source}: {_describe(outcome, top)}", markup=False)
    if not as_json and failed:
        errors.print(f"{failed} of {total} sources could not be read.")
    return 1 if failed else 0


def _describe(outcome: Prediction, top: int) -> str:
    """Say in words what it may be, where that is known, and name the best classes with their probabilities."""
    best = "  ".join(f"{name} {score:.1%}" for name, score in list(outcome.scores.items())[:top])
    if outcome.task == "multilabel":
        return f"{', '.join(outcome.labels) or 'no class'}  ({best})"
    if outcome.is_unknown:
        return f"none of the known classes?  ({best})"
    if outcome.label_set is None:
        return best
    return f"{_join(outcome)}  ({best})"


def _join(outcome: Prediction) -> str:
    """Name the classes of a label set: `archery`, `archery or golf`, `any of 10 classes`."""
    names = outcome.label_set or ()
    if len(names) > _NAMED:
        return f"{'any' if len(names) == len(outcome.scores) else 'one'} of {len(names)} classes"
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


@contextmanager
def _open_scores(path: Path | None, classifier: Scorer) -> Iterator[Callable[[Prediction | PredictionError], object]]:
    """Begin a table of predictions, before the first is made: a place that cannot be written must not cost the work."""
    if path is None:
        yield lambda _: None
        return
    with ExitStack() as stack:
        try:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            table = stack.enter_context(files.write_whole(path, "w"))
        except OSError as error:
            raise TubeletError(
                f"cannot write {str(path)!r} - {error.strerror} - choose another place for the table."
            ) from None
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(list_columns(classifier))
        yield lambda outcome: writer.writerow(list_cells(outcome, classifier.classes))


def print_datasets(*, as_json: bool) -> None:
    """Print what the catalogue knows and what is on disk."""
    table = Table(box=None, header_style="bold")
    for heading in ("name", "classes", "size", "license", "on disk", "what"):
        table.add_column(heading, no_wrap=heading in ("name", "size", "on disk"))
    for name in DATASETS:
        entry, found = DATASETS[name], find_on_disk(name)
        if as_json:
            facts = {one.name: getattr(entry, one.name) for one in fields(entry) if one.name != "fetch"}
            print_json({**facts, "on_disk": found == "yes", "state": found})
        size = describe_size(entry.size_bytes) or "-"
        table.add_row(name, str(entry.classes), size, entry.license, found, entry.summary)
    if not as_json:
        Console(highlight=False).print(table)


def print_download(name: str, manifest: Manifest, *, as_json: bool) -> None:
    """Print what was got, what it lacks, and what to do with it."""
    counts = manifest.split_sizes()
    entry = DATASETS[name]
    if as_json:
        facts = {"name": name, "path": manifest.origin, "classes": list(manifest.classes), "counts": counts}
        print_json({**facts, "license": entry.license, "citation": entry.citation, "notes": list(manifest.notes)})
        return
    console = Console(highlight=False, soft_wrap=True)
    listed = ", ".join(f"{count} {split}" for split, count in counts.items())
    console.print(f"{name}: {len(manifest.classes)} classes, {listed}; {manifest.origin}", markup=False)
    for note in manifest.notes:
        console.print(f"note: {note}", style="yellow", markup=False)
    console.print(f"license: {entry.license}" + (f"; cite: {entry.citation}" if entry.citation else ""), markup=False)
    console.print(f"next: tubelet train {name}", markup=False)


def print_findings(findings: list[Finding], *, as_json: bool) -> int:
    """Print what the doctor found; return 1 where something is not as it should be, else 0."""
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        if as_json:
            print_json(
                {"subject": finding.subject, "found": finding.found, "ok": finding.is_ok, "advice": finding.advice}
            )
            continue
        mark = "ok  " if finding.is_ok else "FAIL"
        advice = f" - {finding.advice}" if finding.advice else ""
        console.print(f"{mark} {finding.subject:<18} {finding.found}{advice}", markup=False)
    return 0 if all(finding.is_ok for finding in findings) else 1


def print_replay(found: Replay, *, as_json: bool) -> int:
    """Print what a step showed when it was taken again; return 1 where it failed again."""
    if as_json:
        row = {**asdict(found), "losses": [loss if math.isfinite(loss) else None for loss in found.losses]}
        print(json.dumps(row, allow_nan=False))  # noqa: T201
        return 0 if found.is_healthy else 1
    numbers = ", ".join(str(number) for number in found.batches)
    lines = [
        f"epoch {found.epoch}, batch {numbers}: loss {', '.join(f'{loss:.4g}' for loss in found.losses)}",
        f"weights that are no numbers: {', '.join(found.bad_weights) or 'none'}",
        f"first module whose output is no number: {found.first_bad_module or 'none'}",
        f"largest output: {found.largest_output[1]:.4g} of {found.largest_output[0]}",
        f"gradients that are no numbers: {', '.join(found.bad_gradients) or 'none'}",
        "clips: " + "\n       ".join(found.clips),
    ]
    print("\n".join(lines))  # noqa: T201
    return 0 if found.is_healthy else 1
