"""Print results: tables for people, JSON for programs."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tubelet import files
from tubelet.data.catalogue import DATASETS, data_home
from tubelet.data.health import Health
from tubelet.doctor import Finding
from tubelet.evaluation.evaluate import Report
from tubelet.models import find_card, list_models
from tubelet.prediction.predict import Prediction, PredictionError

__all__ = [
    "print_datasets",
    "print_findings",
    "print_health",
    "print_models",
    "print_predictions",
    "print_report",
    "track",
]


@contextmanager
def track(description: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on the terminal's error stream, so that results can be piped."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)  # noqa: T201


def print_report(report: Report, output: Path | None, *, as_json: bool) -> None:
    """Print the headline and the figures of each class."""
    if as_json:
        _print_json(report.to_dict())
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(report.headline())
    table = Table("class", box=None, header_style="bold")
    for name in ("precision", "recall", "F1", "clips"):
        table.add_column(name, justify="right")
    for row in report.metrics.per_class:
        table.add_row(row.name, _show(row.precision), _show(row.recall), _show(row.f1), str(row.support))
    console.print(table)
    for remark in report.remarks:
        console.print(f"note: {remark}", style="yellow", markup=False)
    for bad in report.failed:
        console.print(bad.message, style="red", markup=False)
    if output is not None:
        console.print(f"written to {output}", markup=False)


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def print_predictions(
    outcomes: Iterable[Prediction | PredictionError], *, top: int, output: Path | None, as_json: bool
) -> int:
    """Print each outcome as soon as it is there; return 1 where some source failed, else 0."""
    console, errors = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)
    rows: list[Prediction] = []
    failed = 0
    for outcome in outcomes:
        if as_json:
            _print_json(outcome.to_dict())
        if isinstance(outcome, PredictionError):
            failed += 1
            if not as_json:
                errors.print(outcome.message, style="red", markup=False)
            continue
        rows.append(outcome)
        if not as_json:
            best = "  ".join(f"{name} {score:.1%}" for name, score in list(outcome.scores.items())[:top])
            console.print(f"{outcome.source}: {best}", markup=False)
    if output is not None and rows:
        _write_predictions(output, rows)
    if not as_json and failed:
        errors.print(f"{failed} of {failed + len(rows)} sources could not be read.")
    return 1 if failed else 0


def _write_predictions(path: Path, rows: list[Prediction]) -> None:
    classes = sorted(rows[0].scores)
    with files.write_whole(path, "w") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["source", "label", "score", *(f"score:{name}" for name in classes)])
        for row in rows:
            writer.writerow(
                [row.source, row.label, f"{row.score:.6f}", *(f"{row.scores[name]:.6f}" for name in classes)]
            )


def print_models(pattern: str, *, as_json: bool) -> None:
    """Print name, parameters, input and what each model is for."""
    cards = [find_card(name) for name in list_models(pattern)]
    if as_json:
        for card in cards:
            _print_json(
                {"name": card.name, "parameters": card.parameters, "paper": card.paper, "license": card.license}
            )
        return
    table = Table(box=None, header_style="bold")
    for name, side in (("model", "left"), ("parameters", "right"), ("input", "left"), ("summary", "left")):
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=name != "summary")
    for card in cards:
        spec = card.input_spec
        table.add_row(card.name, f"{card.parameters:,}", f"{spec.frames}x{spec.height}x{spec.width}", card.summary)
    Console(highlight=False).print(table)


def print_datasets(*, as_json: bool) -> None:
    """Print what the catalogue knows and what is on disk."""
    table = Table("name", "classes", "license", "on disk", "what", box=None, header_style="bold")
    for name in DATASETS:
        entry = DATASETS[name]
        is_there = any(data_home().glob(f"{name}*")) if data_home().exists() else False
        if as_json:
            _print_json({"name": name, "classes": entry.classes, "license": entry.license, "on_disk": is_there})
        table.add_row(name, str(entry.classes), entry.license, "yes" if is_there else "no", entry.summary)
    if not as_json:
        Console(highlight=False).print(table)


def print_health(health: Health, *, as_json: bool) -> int:
    """Print what a set holds and what is wrong; return 1 where clips cannot be used, else 0."""
    status = 1 if health.problems else 0
    if as_json:
        _print_json(health.to_dict())
        return status
    console = Console(highlight=False, soft_wrap=True)
    total = sum(sum(split.values()) for split in health.counts.values())
    console.print(f"{health.origin}: {total} clips", markup=False)
    for split, classes in health.counts.items():
        listed = ", ".join(f"{name} {count}" for name, count in list(classes.items())[:12])
        console.print(f"  {split or 'no split'}: {sum(classes.values())} ({listed})", markup=False)
    shortest, middle, longest = health.duration_s
    console.print(f"  seconds: {shortest:.2f} shortest, {middle:.2f} middle, {longest:.2f} longest")
    console.print(f"  codecs: {_join(health.codecs)}; sizes: {_join(health.sizes)}", markup=False)
    for remark in health.remarks:
        console.print(f"  note: {remark}", style="yellow", markup=False)
    for problem in health.problems:
        console.print(f"  {problem.code}: {problem.message}", style="red", markup=False)
    console.print(f"{len(health.problems)} clips cannot be used." if status else "every clip can be read.")
    return status


def _join(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def print_findings(findings: list[Finding], *, as_json: bool) -> int:
    """Print what the doctor found; return 1 where something is not as it should be, else 0."""
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        if as_json:
            _print_json(
                {"subject": finding.subject, "found": finding.found, "ok": finding.is_ok, "advice": finding.advice}
            )
            continue
        mark = "ok  " if finding.is_ok else "FAIL"
        advice = f" - {finding.advice}" if finding.advice else ""
        console.print(f"{mark} {finding.subject:<18} {finding.found}{advice}", markup=False)
    return 0 if all(finding.is_ok for finding in findings) else 1
