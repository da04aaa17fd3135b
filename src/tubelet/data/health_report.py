"""Write what a check of a set found: health.json for programs, health.html to look at."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tubelet import files
from tubelet.data.examination import Examination, Problem
from tubelet.data.health import Checkup
from tubelet.data.manifest import Manifest
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
    files.write_json(folder / "health.json", health.to_dict())
    by_name = {examination.source: examination for examination in checkup.examinations}
    total = len(checkup.examinations)
    shortest, middle, longest = health.duration_s
    read = "every frame of each was decoded" if health.is_full else "32 frames of each were decoded"
    summary = (
        f"{total:,} clips, {len(checkup.manifest.classes)} classes; {read}. "
        f"Seconds: {shortest:.2f} shortest, {middle:.2f} middle, {longest:.2f} longest."
    )
    body = [
        Html.tag("p", summary, kind="soft"),
        *(Html.tag("p", remark.message, kind="odd") for remark in health.remarks),
    ]
    body += _list_problems("Cannot be used as it is", health.problems, by_name, "bad")
    body += _list_problems("Odd, but readable", health.oddities, by_name, "odd")
    if not health.problems and not health.oddities:
        body.append(Html.tag("p", "Nothing wrong was found."))
    body += [Html.tag("h2", "Clips"), _count(checkup.manifest), *_show_classes(checkup)]
    write_page(folder / "health.html", f"Health of {Path(health.origin).name}", body)


def _list_problems(
    title: str, problems: Sequence[Problem], by_name: dict[str, Examination], kind: str
) -> Iterator[Html]:
    if not problems:
        return
    yield Html.tag("h2", f"{title}: {len(problems):,}")
    rows = []
    for problem in problems[:_MOST_ROWS]:
        own = by_name.get(problem.source)
        thumbs = Html("".join(Picture.of(thumb, problem.source) for thumb in own.thumbs)) if own else Html("")
        rows.append((Html.tag("span", problem.code, kind=kind), problem.message, thumbs))
    yield Html.table(("what", "which", "pictures"), rows)
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
            if sample.label == name and examination.thumbs
        ][:_EXAMPLES]
        pictures = Html("".join(Picture.of(thumb, name) for thumbs in shown for thumb in thumbs))
        figures.append(Html.tag("figure", pictures, Html.tag("figcaption", name)))
    yield Html.tag("div", *figures, kind="grid")
