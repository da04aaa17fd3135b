"""Write what a check of a set found: health.json for programs, health.html to look at."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tubelet import files
from tubelet.data.examination import Examination, Problem
from tubelet.data.health import Checkup, Health
from tubelet.data.manifest import Manifest
from tubelet.data.sample import Sample
from tubelet.report.page import Html, Picture, write_page

__all__ = ["write_report"]

_MOST_ROWS = 500
_MOST_CLASSES = 60
_EXAMPLES = 2


def write_report(checkup: Checkup, folder: str | Path) -> None:
    """Write `health.json` and `health.html` into a folder.

    Args:
        checkup: what `check_health` found.
        folder: made if need be.
    """
    folder = Path(folder)
    health = checkup.health
    clips = [
        _describe_clip(sample, own) for sample, own in zip(checkup.manifest.samples, checkup.examinations, strict=True)
    ]
    files.write_json(folder / "health.json", health.to_dict() | {"clips": clips})
    total = len(checkup.examinations)
    shortest, middle, longest = health.duration_s
    read = "every frame of each was decoded" if health.is_full else "32 frames of each were decoded"
    summary = (
        f"{total:,} clips, {len(checkup.manifest.classes)} classes; {read}. "
        f"Seconds: {shortest:.2f} shortest, {middle:.2f} middle, {longest:.2f} longest."
    )
    body = [Html.tag("p", summary, kind="soft"), Html.tag("p", f"Paths start at {_find_root(health)}", kind="soft")]
    body += [_count_kinds(health)] if health.problems or health.oddities or health.remarks else []
    body += _list_remarks(health)
    body += _list_problems("Cannot be used as it is", health.problems, checkup, "bad")
    body += _list_problems("Odd, but readable", health.oddities, checkup, "odd")
    if not health.problems and not health.oddities:
        body.append(Html.tag("p", "Nothing wrong was found."))
    body += [Html.tag("h2", "Clips"), _count(checkup.manifest), *_show_classes(checkup)]
    write_page(folder / "health.html", f"Health of {Path(health.origin).name}", body)


def _describe_clip(sample: Sample, examination: Examination) -> dict[str, object]:
    """State for programs what a clip is; what is not known is left out."""
    info = examination.info
    facts = {"source": sample.name, "label": sample.label, "split": sample.split, "group": sample.group}
    read = asdict(info) if info is not None else {}
    return {**facts, **read, "problems": [problem.code for problem in examination.problems]}


def _find_root(health: Health) -> str:
    origin = Path(health.origin)
    return os.path.join(origin.parent if origin.is_file() else origin, "")  # noqa: PTH118 - with the separator


def _count_kinds(health: Health) -> Html:
    kinds = Counter(problem.code for problem in (*health.problems, *health.oddities, *health.remarks))
    return Html.table(("found", "times"), [(code, f"{count:,}") for code, count in kinds.items()], numbers=[1])


def _list_remarks(health: Health) -> Iterator[Html]:
    if health.remarks:
        yield Html.tag("h2", f"About the set: {len(health.remarks)}")
        rows = [(Html.tag("span", remark.code, kind="odd"), remark.message) for remark in health.remarks]
        yield Html.table(("what", "which"), rows, kind="cards")


def _list_problems(title: str, problems: Sequence[Problem], checkup: Checkup, kind: str) -> Iterator[Html]:
    """List problems with pictures of the clip and of those that it is compared with."""
    if not problems:
        return
    yield Html.tag("h2", f"{title}: {len(problems):,}")
    root = _find_root(checkup.health)
    by_name = {examination.source: examination.thumbs for examination in checkup.examinations}
    rows = []
    for problem in problems[:_MOST_ROWS]:
        shown = [name for name in (problem.source, *problem.others[:1]) if by_name.get(name)]
        strips = [Html("".join(Picture.of(thumb, name) for thumb in by_name[name])) for name in dict.fromkeys(shown)]
        pictures = Html("".join(Html.tag("div", strip) for strip in strips))
        rows.append((Html.tag("span", problem.code, kind=kind), problem.message.replace(root, ""), pictures))
    yield Html.table(("what", "which", "pictures"), rows, kind="cards")
    if len(problems) > _MOST_ROWS:
        yield Html.tag("p", f"and {len(problems) - _MOST_ROWS:,} more: health.json names all.", kind="soft")


def _count(manifest: Manifest) -> Html:
    counts = manifest.counts()
    rows = [(name, *(f"{counts[split][name]:,}" for split in counts)) for name in manifest.classes]
    return Html.table(("class", *counts), rows, numbers=range(1, len(counts) + 1))


def _show_classes(checkup: Checkup) -> Iterator[Html]:
    """Show the first clips of each class."""
    figures = []
    for name in checkup.manifest.classes[:_MOST_CLASSES]:
        shown = [
            examination.thumbs
            for sample, examination in zip(checkup.manifest.samples, checkup.examinations, strict=True)
            if name in sample.labels and examination.thumbs
        ][:_EXAMPLES]
        pictures = Html("".join(Picture.of(thumb, name) for thumbs in shown for thumb in thumbs))
        figures.append(Html.tag("figure", pictures, Html.tag("figcaption", name)))
    yield Html.tag("div", *figures, kind="grid")
