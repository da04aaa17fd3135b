"""Read a table of clips: CSV, TSV or JSON lines, with named columns.

    path,label,split,source_video                   {"path": "fight/a.mp4", "label": "fight"}
    fight/a.mp4,fight,train,7q6KJoSgxmY             {"path": "b c.mp4", "label": "no fight", "start_s": 1.5}
    "no fight/b, c.mp4",no fight,val,Tnq2m

    path,labels                                     {"path": "a.mp4", "labels": ["car", "person"]}
    a.mp4,car|person                                {"path": "b.mp4", "labels": []}
    b.mp4,

`path` and `label` are required, or `labels` in its place: then each clip has any number of classes. `split`, `group`,
`start_s` and `end_s` are known; every other column is kept as metadata. Relative paths start at the folder of the
table. All wrong lines are reported at once. Where `classes.txt` lies beside the table, it gives the classes their
order.
"""

import csv
import io
import json
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tubelet import files
from tubelet.data.class_list import CLASS_LIST, read_classes
from tubelet.data.sample import (
    SEPARATOR,
    Problem,
    Reading,
    Sample,
    check_problems,
    join_labels,
    normalize_split,
    quote_some,
)
from tubelet.errors import DataError, name_nearest
from tubelet.shapes import Task

__all__ = ["TABLE_SUFFIXES", "find_classes", "make_sample", "read_table", "to_text", "write_table"]

TABLE_SUFFIXES = frozenset([".csv", ".tsv", ".jsonl", ".ndjson"])
"""Endings of tables that can be read."""

_OPTIONAL = ("split", "group", "start_s", "end_s")
_KNOWN = ("path", "label", "labels", *_OPTIONAL)
# Names that other tools give to the same columns and that no spelling distance would lead to ours.
_SYNONYMS = {
    "path": ("file", "filename", "file_name", "file_path", "filepath", "video", "video_path", "clip", "source"),
    "label": ("class", "class_name", "category", "target", "action", "y"),
    "start_s": ("start", "begin", "start_time", "t_start"),
    "end_s": ("end", "stop", "end_time", "t_end"),
    "split": ("subset", "set"),
    "group": ("groups", "group_id"),
}
Row = tuple[int, Mapping[str, str]]


def read_table(path: Path) -> Reading:
    """Read the samples of a CSV, TSV or JSON-lines file, in the order of its lines, and name the lines without one.

    Raises:
        DataError: a file that is no such table, or one of which no line can be used.
    """
    text = _read_text(path)
    problems: list[Problem] = []
    rows: Iterator[Row]
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        rows = _read_json_lines(text, problems)
    else:
        rows = _read_csv(path, text, problems)
    folder = os.path.abspath(path.parent)  # noqa: PTH100 - resolve() would replace links by what they point to
    samples: list[Sample] = []
    columns: Counter[str] = Counter()
    for line, row in rows:
        columns.update(row.keys())
        try:
            samples.append(make_sample(folder, line, row))
        except DataError as error:
            problems.append(Problem(str(error), line))
    if not samples:
        check_problems(path, problems)
        raise DataError(
            f"cannot use '{path}' - it states no clip - write one line for each clip below the column names."
        )
    if columns["label"] and columns["labels"]:
        raise DataError(
            f"cannot use '{path}' - it has 'label' on {columns['label']} lines and 'labels' on {columns['labels']} - "
            f"keep 'label' where each clip is of one class, else 'labels', with '{SEPARATOR}' between them."
        )
    notes, classes = tuple(_suspect_columns(list(columns))), find_classes(path, samples)
    task: Task = "multilabel" if columns["labels"] else "classification"
    return Reading(tuple(samples), notes, classes, tuple(problems), task)


def write_table(path: Path, samples: Iterable[Sample]) -> None:
    """Write the paths, labels, splits and groups of samples as a CSV file that `read_table` reads.

    Paths below the folder of the table are written relative to it, so that both can be moved together.
    """
    folder = os.path.join(os.path.abspath(path.parent), "")  # noqa: PTH100, PTH118 - with the separator
    with files.write_whole(path, "w") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["path", "label", "split", "group"])
        for sample in samples:
            place = sample.source.removeprefix(folder)
            writer.writerow([place.replace(os.sep, "/"), sample.label, sample.split or "", sample.group or ""])


def find_classes(path: Path, samples: list[Sample]) -> tuple[str, ...] | None:
    """Read the order of classes where it is fixed beside a table; None where it is not.

    Raises:
        DataError: samples whose label is not in the list.
    """
    place = path.with_name(CLASS_LIST)
    if not place.is_file():
        return None
    names = read_classes(place)
    known = set(names)
    problems = [
        Problem(f"the label '{label}' is not in '{place.name}' beside the table - add or mend it.", sample.line)
        for sample in samples
        for label in sample.labels
        if label not in known
    ]
    check_problems(path, problems)
    return names


def _read_text(path: Path) -> str:
    """Decode UTF-8 with or without a byte order mark; say where it is something else."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read '{path}' - {error.strerror} - check its permissions.") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"cannot read '{path}' - it is UTF-16 text - save it as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"cannot read '{path}' - line {line} is not UTF-8 text - save the file as UTF-8.") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"cannot read '{path}' - line {line} holds a zero byte - give a text file.")
    return text


def _read_csv(path: Path, text: str, problems: list[Problem]) -> Iterator[Row]:
    """Give the lines of a CSV or TSV file as (number of its first line, values by column)."""
    records = _split_records(path, text)
    _, header = next(records, (1, []))
    names = _check_header(path, [name.strip() for name in header])
    for line, values in records:
        if not any(value.strip() for value in values):
            continue
        if len(values) != len(names):
            problems.append(
                Problem(
                    f"{len(values)} values for {len(names)} columns - quote values that contain the separator, "
                    f'as in "a, b.mp4".',
                    line,
                )
            )
            continue
        yield line, {name: value.strip() for name, value in zip(names, values, strict=True)}


def _split_records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Split into records with the number of the line each begins on; quoted values may span lines."""
    head = text.split("\n", 1)[0]
    # Spreadsheets of many countries write semicolons under the name CSV.
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ";" if ";" in head and "," not in head else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"cannot read '{path}' - line {line}: {error} - mend the quotes of that line.") from None
        yield line, values


def _check_header(path: Path, header: list[str]) -> list[str]:
    """Return the names of the columns, those we know in lower case."""
    names = [name.lower() if name.lower() in _KNOWN else name for name in header]
    missing = _find_missing(names)
    if missing:
        advice = "".join(_advise(name, names) for name in missing)
        raise DataError(
            f"cannot use '{path}' - line 1 must name the columns, 'path' and 'label' among them - "
            f"found {quote_some(names, 8) or 'nothing'}{advice or '; write path,label as the first line.'}"
        )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(f"cannot use '{path}' - line 1 names the column '{repeated[0]}' twice - rename one.")
    return names


def _find_missing(names: Collection[str]) -> list[str]:
    """Name the required columns that are not there; `labels` takes the place of `label`."""
    return [name for name in ("path", "labels" if "labels" in names else "label") if name not in names]


def _advise(wanted: str, names: list[str]) -> str:
    """Say which of the names was probably meant to be the wanted column."""
    unknown = [name for name in names if name not in _KNOWN]
    for name in unknown:
        if name.lower() in _SYNONYMS[wanted] or name_nearest(name.lower(), [wanted]):
            return f"; rename '{name}' to '{wanted}'"
    return ""


def _suspect_columns(columns: list[str]) -> Iterator[str]:
    """Warn of metadata that was probably meant to be a known column: it would be ignored in silence."""
    for wanted in _OPTIONAL:
        advice = "" if wanted in columns else _advise(wanted, columns)
        if advice:
            yield f"no column '{wanted}' was found{advice} if that is what it holds"


def _read_json_lines(text: str, problems: list[Problem]) -> Iterator[Row]:
    """Give each JSON object as (line, values by name); null counts as absent."""
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            entries = json.loads(content, object_pairs_hook=_refuse_repeats)
        except (ValueError, RecursionError) as error:
            problems.append(Problem(f"no JSON object: {error} - write one object a line.", line))
            continue
        if not isinstance(entries, dict):
            problems.append(Problem(f"found a JSON {type(entries).__name__} - write one object a line.", line))
            continue
        try:
            row = {str(name): to_text(name, value) for name, value in entries.items() if value is not None}
        except DataError as error:
            problems.append(Problem(str(error), line))
            continue
        missing = _find_missing(row)
        problems += [Problem(f"'{name}' is missing{_advise(name, list(row)) or '; add it'}.", line) for name in missing]
        if not missing:
            yield line, row


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("a name stands twice")
    return dict(pairs)


def to_text(name: str, value: object) -> str:
    """Turn a JSON value into the text of a column.

    Raises:
        DataError: several names where one is meant.
    """
    if name == "label" and isinstance(value, list):
        raise DataError("'label' is a list - call it 'labels' on every line.")
    if name == "labels" and isinstance(value, list):
        return join_labels(one if isinstance(one, str) else json.dumps(one) for one in value)
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def make_sample(folder: str, line: int | None, row: Mapping[str, str]) -> Sample:
    """Turn one row into a sample.

    Args:
        folder: where relative paths start.
        line: of the table.
        row: values by column, `path` and `label` among them.

    Raises:
        DataError: the first thing that is wrong with the row.
    """
    for name in ("path", "label"):
        if row.get(name) == "":
            raise DataError(f"'{name}' is empty - fill it in, or remove the line.")
    label = unicodedata.normalize("NFC", row["label"]) if "label" in row else _parse_labels(row["labels"])
    start_s, end_s = _parse_time("start_s", row), _parse_time("end_s", row)
    if end_s is not None and (start_s or 0.0) >= end_s:
        raise DataError(f"start_s {start_s or 0.0:g} is not before end_s {end_s:g} - swap or mend them.")
    return Sample(
        source=os.path.abspath(os.path.join(folder, row["path"])),  # noqa: PTH100, PTH118 - a Path a line is slow
        label=label,
        split=normalize_split(row["split"]) if row.get("split") else None,
        group=row.get("group") or None,
        start_s=start_s,
        end_s=end_s,
        metadata={name: value for name, value in row.items() if name not in _KNOWN},
        line=line,
    )


def _parse_labels(text: str) -> str:
    return join_labels(text.split(SEPARATOR)) if text else ""


def _parse_time(name: str, row: Mapping[str, str]) -> float | None:
    text = row.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise DataError(
            f"{name} must be seconds from the first frame, 0 or more - found '{text}' - write such as 12.5."
        )
    return value
