"""Print what was found out about a set of clips."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from shlex import quote

from rich.console import Console

from tubelet.data.edition import Edition
from tubelet.data.health import Health, Problem
from tubelet.data.manifest import Manifest

__all__ = ["print_edition", "print_health", "print_split"]

_MEGABYTE = 10**6
_MOST_LISTED = 50


def print_health(health: Health, *, as_json: bool, output: Path | None = None) -> int:
    """Print what a set holds and what is wrong; return 1 where clips or splits cannot be used, else 0."""
    status = 1 if health.problems else 0
    if as_json:
        print(json.dumps(health.to_dict(), ensure_ascii=False), flush=True)  # noqa: T201
        return status
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{health.origin}: {sum(health.splits.values())} clips", markup=False)
    for split, classes in health.counts.items():
        listed = ", ".join(f"{name} {count}" for name, count in list(classes.items())[:12])
        console.print(f"  {split}: {health.splits[split]} ({listed})", markup=False)
    shortest, middle, longest = health.duration_s
    console.print(f"  seconds: {shortest:.2f} shortest, {middle:.2f} middle, {longest:.2f} longest")
    console.print(f"  codecs: {_join(health.codecs)}; sizes: {_join(health.sizes)}", markup=False)
    for remark in health.remarks:
        console.print(f"  {remark.code}: {remark.message}", style="yellow", markup=False)
    _print_problems(console, health.oddities, "yellow", output)
    _print_problems(console, health.problems, "red", output)
    read = "every frame of every clip decodes" if health.is_full else "every clip opens and the frames tried decode"
    advice = "." if health.is_full else "; --full tries every frame."
    console.print(f"{len(health.problems)} problems{advice}" if status else f"{read}{advice}")
    if output is not None:
        console.print(f"written to {output}: health.html, health.json", markup=False)
    return status


def _print_problems(console: Console, problems: tuple[Problem, ...], style: str, output: Path | None) -> None:
    for problem in problems[:_MOST_LISTED]:
        console.print(f"  {problem.code}: {problem.message}", style=style, markup=False)
    if len(problems) > _MOST_LISTED:
        kinds = _join(dict(Counter(problem.code for problem in problems)))
        where = "health.json names all" if output else "--output FOLDER writes all"
        console.print(f"  and {len(problems) - _MOST_LISTED} more ({kinds}); {where}.", style=style, markup=False)


def _join(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def print_edition(edition: Edition, seconds: float, *, as_json: bool) -> int:
    """Print what was stored anew; return 1 where clips could not be read, else 0."""
    status = 1 if edition.bad else 0
    if as_json:
        facts = {**edition._asdict(), "path": edition.path and str(edition.path), "seconds": round(seconds, 1)}
        print(json.dumps({**facts, "bad": [asdict(one) for one in edition.bad]}, ensure_ascii=False), flush=True)  # noqa: T201
        return status
    console = Console(highlight=False, soft_wrap=True)
    for one in edition.bad[:_MOST_LISTED]:
        console.print(f"  {one.code}: {one.message}", style="red", markup=False)
    if edition.bad:
        console.print(f"{len(edition.bad)} clips could not be read and are left out (bad_samples.jsonl).")
    before_mb, after_mb = edition.bytes_before / _MEGABYTE, edition.bytes_after / _MEGABYTE
    size = f"{before_mb:,.1f} MB" if edition.path is None else f"{before_mb:,.1f} -> {after_mb:,.1f} MB"
    console.print(f"{edition.clips:,} clips, {size}, {seconds:.1f} s")
    if edition.path is None:
        console.print("After all parts: the same command without --shard puts them together.")
    else:
        console.print(f"next: tubelet train {quote(str(edition.path))}", markup=False)
    return status


def print_split(manifest: Manifest, path: Path) -> None:
    """Print how many clips each split of a written table has."""
    console = Console(highlight=False, soft_wrap=True)
    sizes = manifest.split_sizes()
    for split, classes in manifest.counts().items():
        count = sizes[split]
        share = count / len(manifest.samples)
        console.print(f"  {split}: {count:,} clips ({share:.1%}), {sum(map(bool, classes.values()))} classes")
    for note in manifest.notes:
        console.print(f"  note: {note}", style="yellow", markup=False)
    console.print(f"written to {path}", markup=False)
