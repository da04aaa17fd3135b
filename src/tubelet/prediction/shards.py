"""Predict so many videos that it takes days, machines and kills: a row for each, and one only.

    shards/
      job.json                      what was asked: sources, options, number of shards, hash of the model
      sources.jsonl                 every single source, one JSON text a line: listed once, by whoever came first
      shard-0002-of-0010/
        000000100-000000164.csv     rows of the sources 100..163, written under another name and then renamed
      predictions.csv               all rows in order, as soon as no shard lacks any

What is done is what the names of files say, so that a start after a kill costs one look into a folder. Nothing else is
kept: no counter that could be wrong. A kill costs the rows since the last file, half a minute of work.
"""

import csv
import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from glob import has_magic
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from tubelet import files
from tubelet.classifier import Classifier
from tubelet.errors import CheckpointError, ConfigError, DataError, Interrupted
from tubelet.model_folder import hash_weights
from tubelet.prediction.predict import Outcome, PredictionError, PredictionOptions, predict_each
from tubelet.prediction.sources import LIST_SUFFIXES, list_sources
from tubelet.prediction.table import list_cells, list_columns
from tubelet.runtime import ExportedModel
from tubelet.scorer import Scorer

__all__ = ["JOB_NAME", "TABLE_NAME", "ShardReport", "predict_shard"]

JOB_NAME, SOURCES_NAME, TABLE_NAME = "job.json", "sources.jsonl", "predictions.csv"
ROWS_A_FILE = 1000
SECONDS_A_FILE = 30.0
"""A file of rows is closed when it has so many, or is so old: a kill costs no more than that."""
_STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 143}


@dataclass(frozen=True)
class ShardReport:
    """State what one start of a shard did, and whether the job is done."""

    shard: int
    """Its number, from 1."""
    shards: int
    """Shards of the job."""
    sources: int
    """Sources of this shard."""
    done: int
    """Rows that this start wrote."""
    failed: int
    """Those of them that hold an error."""
    table: str | None
    """Path of the table of all rows; None while some shard lacks any."""


class _Part(NamedTuple):
    """Name a file that holds the rows of sources [start, stop)."""

    start: int
    stop: int
    path: Path


def predict_shard(
    classifier: Scorer,
    sources: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    shard: int = 1,
    shards: int = 1,
    options: PredictionOptions | None = None,
    on_step: Callable[[int, int], object] = lambda _done, _total: None,
) -> ShardReport:
    """Classify part `shard` of `shards` of many sources into a folder that any number of processes share.

    Give the same call again after whatever ended it: sources that have a row are left alone. Who completes the last
    shard puts the rows of all together in `predictions.csv`. A source that cannot be read has a row, too, with the
    error in its last column. SIGTERM, SIGUSR1 and Ctrl-C end the work with all rows written.

    Args:
        classifier: what `tubelet.load` gives.
        sources: as `predict` takes them; listed at the first start, so that later changes of a folder change nothing.
        folder: where rows go; on a disk that all processes share.
        shard: the part, from 1: parts are equal stretches of the list.
        shards: number of parts; the same in all calls.
        options: how to predict; the same in all calls but for `batch` and `readers`.
        on_step: called with the sources done and all sources of the shard.

    Raises:
        ConfigError: another process works on this shard; or the folder holds a job of another model, of other sources
            or options.
        Interrupted: a signal asked for the end; all that was done is written.
    """
    options = options or PredictionOptions()
    if not 1 <= shard <= shards:
        raise ConfigError(f"cannot predict shard {shard} of {shards} - parts are counted from 1 - give 1 to {shards}.")
    place = Path(folder)
    named = [os.path.abspath(source) for source in sources]  # noqa: PTH100 - resolve() would follow links
    total = _open_job(place, named, _describe(classifier, named, shards, options))
    start, stop = (total * edge // shards for edge in (shard - 1, shard))
    own = _shard_folder(place, shard, shards)
    own.mkdir(exist_ok=True)
    writer = _RowWriter(own, classifier)
    with _hold(own / "lock", wait=False) as is_held, _ending_at_signals(own):
        if is_held:
            files.remove_leftovers(own)
        gaps = list(_find_gaps(_list_parts(own), start, stop))
        done = stop - start - sum(end - begin for begin, end in gaps)
        on_step(done, stop - start)
        for begin, end in gaps:
            names = _read_sources(place / SOURCES_NAME, begin, end)
            with writer.rows_from(begin) as add:
                for outcome in predict_each(classifier, names, options):
                    add(outcome)
                    done += 1
                    on_step(done, stop - start)
        table = _put_together(place, total, shards, list_columns(classifier))
    return ShardReport(shard, shards, stop - start, writer.done, writer.failed, table)


class _RowWriter:
    """Collect rows and write them, many in a file."""

    def __init__(self, folder: Path, classifier: Scorer) -> None:
        self.folder = folder
        self.columns = list_columns(classifier)
        self.classes = classifier.classes
        self.done = self.failed = 0
        self._rows: list[list[str]] = []

    @contextmanager
    def rows_from(self, start: int) -> Iterator[Callable[[Outcome], None]]:
        """Take the outcomes of the sources from `start` on; whatever ends the block, what it was given is written."""
        self._start, self._began_s = start, time.monotonic()
        try:
            yield self._add
        finally:
            self._write()

    def _add(self, outcome: Outcome) -> None:
        self._rows.append(list_cells(outcome, self.classes))
        self.failed += isinstance(outcome, PredictionError)
        if len(self._rows) >= ROWS_A_FILE or time.monotonic() - self._began_s >= SECONDS_A_FILE:
            self._write()

    def _write(self) -> None:
        if not self._rows:
            return
        stop = self._start + len(self._rows)
        with files.write_whole(self.folder / f"{self._start:09d}-{stop:09d}.csv", "w") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows(self._rows)
        self.done += len(self._rows)
        self._rows, self._start, self._began_s = [], stop, time.monotonic()


def _describe(classifier: Scorer, sources: Sequence[str], shards: int, options: PredictionOptions) -> dict[str, Any]:
    """Say what decides the rows of a job: whoever goes on with it must agree."""
    given = asdict(options)
    decisive = {name: given[name] for name in ("views", "decoder", "coverage", "precision")}
    lists = [one for one in sources if Path(one).suffix.lower() in LIST_SUFFIXES and os.path.isfile(one)]  # noqa: PTH113
    return {
        "format": 1,
        "model": _hash_classifier(classifier),
        "sources": list(sources),
        "lists": {path: files.hash_file(path) for path in lists},
        "shards": shards,
        **decisive,
    }


def _hash_classifier(classifier: Scorer) -> str:
    """Hash all of a classifier that decides what it answers."""
    calibration = classifier.calibration
    figures = calibration.to_values() if calibration else None
    arrays = calibration.to_arrays().values() if calibration else ()
    known = (_hash_weights(classifier), asdict(classifier.input_spec), classifier.classes, classifier.task, figures)
    return files.hash_pieces([json.dumps(known).encode(), *(array.tobytes() for array in arrays)])


def _hash_weights(classifier: Scorer) -> str:
    if isinstance(classifier, ExportedModel):
        origin = Path(classifier.origin)  # a file, or a folder of files
        return " ".join(files.hash_file(path) for path in sorted([origin, *origin.rglob("*")]) if path.is_file())
    assert isinstance(classifier, Classifier)
    return hash_weights(classifier.model)


def _open_job(folder: Path, sources: Sequence[str], wanted: Mapping[str, Any]) -> int:
    """Begin a job, or find the same one begun; return the number of its sources.

    Raises:
        ConfigError: the folder holds another job, or something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / JOB_NAME
    if not path.exists():
        _check_free(folder)
        # One process lists; those that begin at the same moment wait for it.
        with _hold(folder / "lock", wait=True):
            files.remove_leftovers(folder)
            if not path.exists():
                _begin_job(folder, sources, wanted)
    found = _read_job(path)
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ConfigError(_explain_difference(folder, name, found.get(name), value))
    return int(found["count"])


def _read_job(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        int(found["count"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"cannot go on with the job of {str(path)!r} - the file is damaged: {error} - take an intact copy, or "
            "begin the job in another folder."
        ) from None
    return dict(found)


def _check_free(folder: Path) -> None:
    names = {name for name in os.listdir(folder) if not name.startswith(".")}  # noqa: PTH208 - names are all
    foreign = sorted(names - {"lock", SOURCES_NAME})
    if foreign and JOB_NAME not in names:  # which another process may have written in the meantime
        raise ConfigError(
            f"cannot begin a job in '{folder}' - it holds '{foreign[0]}' and no {JOB_NAME} - name a new folder; a "
            "table as one file has an ending, such as scores.csv."
        )


def _begin_job(folder: Path, sources: Sequence[str], wanted: Mapping[str, Any]) -> None:
    missing = [source for source in sources if not os.path.exists(source) and not has_magic(source)]  # noqa: PTH110
    if missing:
        raise ConfigError(f"cannot begin a job - there is no {missing[0]!r} - check the path.")
    count = 0
    with files.write_whole(folder / SOURCES_NAME, "w") as stream:
        for count, source in enumerate(list_sources(sources), start=1):  # noqa: B007
            stream.write(json.dumps(source) + "\n")
    if not count:
        raise ConfigError(f"cannot predict - {sources} name no video - give files, folders, patterns or lists.")
    files.write_json(folder / JOB_NAME, {**wanted, "count": count})


def _explain_difference(folder: Path, name: str, found: object, wanted: object) -> str:
    if name == "model":
        what = "it was begun with another model, or other weights of it"
    elif name == "lists":
        what = "a list of sources has changed since it was begun"
    else:
        what = f"it was begun with {name} {found}, now asked for is {wanted}"
    return f"cannot go on with the job in '{folder}' - {what} - give the same command again, or name another folder."


def _read_sources(path: Path, start: int, stop: int) -> Iterator[str]:
    with path.open("rb") as lines:
        for line in islice(lines, start, stop):
            yield json.loads(line)


def _shard_folder(folder: Path, shard: int, shards: int) -> Path:
    return folder / f"shard-{shard:04d}-of-{shards:04d}"


def _list_parts(folder: Path) -> list[_Part]:
    """List the files of rows of a shard in order; other files do not count."""
    parts = []
    for name in os.listdir(folder) if folder.is_dir() else ():  # noqa: PTH208 - names are all that is needed
        start, _, stop = name.removesuffix(".csv").partition("-")
        if name.endswith(".csv") and start.isdecimal() and stop.isdecimal():
            parts.append(_Part(int(start), int(stop), folder / name))
    return sorted(parts)


def _find_gaps(parts: Iterable[_Part], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Find the stretches of [start, stop) that no file covers."""
    for part in parts:
        if part.start > start:
            yield start, part.start
        start = max(start, part.stop)
    if start < stop:
        yield start, stop


def _put_together(folder: Path, total: int, shards: int, columns: list[str]) -> str | None:
    """Write the table of all rows, if none lacks and nobody has written it; return its path where it is there."""
    table = folder / TABLE_NAME
    if _count_lines(table) > total:  # a name may hold line ends
        return str(table)
    parts = [part for shard in range(1, shards + 1) for part in _list_parts(_shard_folder(folder, shard, shards))]
    if next(_find_gaps(parts, 0, total), None) is not None:
        return None
    with _hold(folder / "lock", wait=True):
        files.remove_leftovers(folder)
        if _count_lines(table) <= total:
            with files.write_whole(table, "w") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(columns)
                done = 0
                for part in parts:
                    # Files overlap only where a disk without locks let two processes do the same work.
                    writer.writerows(islice(_read_rows(part), done - part.start, None))
                    done = max(done, part.stop)
    return str(table)


def _count_lines(path: Path) -> int:
    """Count the lines of a table, 0 where there is none."""
    if not path.exists():
        return 0
    with path.open("rb") as stream:
        return sum(piece.count(b"\n") for piece in iter(lambda: stream.read(1 << 20), b""))


def _read_rows(part: _Part) -> Iterator[list[str]]:
    """Read the rows of a file.

    Raises:
        DataError: it holds other than its name says.
    """
    count = 0
    with part.path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        for count, row in enumerate(islice(csv.reader(stream), 1, None), start=1):  # noqa: B007
            yield row
    if count != part.stop - part.start:
        raise DataError(
            f"'{part.path}' is damaged - it holds {count} rows, its name says {part.stop - part.start} - remove it, "
            "and give the command of its shard again."
        )


@contextmanager
def _hold(path: Path, *, wait: bool) -> Iterator[bool]:
    """Keep other processes out while the block lasts; the system lets go whatever ends this one.

    Returns:
        Whether anybody is kept out: Windows and some network disks know no such lock.

    Raises:
        ConfigError: another process is in, and nobody wants to wait.
    """
    with path.open("a+") as lock:
        yield _lock(lock, path, wait=wait)


def _lock(lock: IO[str], path: Path, *, wait: bool) -> bool:
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise ConfigError(
                f"cannot work on '{path.parent}' - another process works on this shard at this moment - wait for its "
                "end, or give the number of another shard."
            ) from None
        return False
    return True


@contextmanager
def _ending_at_signals(folder: Path) -> Iterator[None]:
    """End the block at once where a signal asks for it, in order, so that what is done can be written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        raise Interrupted(
            f"'{folder}' was stopped by {name} - its rows are written - the same command goes on.", _STATUS[name]
        )

    known = [getattr(signal, name) for name in _STATUS if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in known}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
