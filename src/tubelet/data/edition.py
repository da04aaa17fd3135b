"""Make an edition of a data set that is cheaper to read: other files, the same labels, splits, groups and columns.

    samples  ->  name each  ->  render those that are not there, in processes  ->  manifest.csv
                                                                              ->  pack into shards

Every clip appears under its name whole or not at all, so what is there is done: a run that was killed goes on when it
is started again, and parts of one run may work at the same time on several machines. What was asked for is written
into the folder first, and another wish is refused.

    output/  manifest.csv  classes.txt  bad_samples.jsonl  train/walk/0001.mp4 ...
    output/  train-000000.tar ...  classes.txt  bad_samples.jsonl
    output/.prepare/  job.json (what was asked)  shards.json (which clip is in which)  clips/ (until they are packed)
"""

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tubelet import files
from tubelet.data.catalogue import open_data
from tubelet.data.class_list import CLASS_LIST, write_classes
from tubelet.data.clip_names import name_clips
from tubelet.data.dataset import BadSample
from tubelet.data.division import write_manifest
from tubelet.data.folders import DONE_NAME, EDITION_HOME
from tubelet.data.manifest import Manifest
from tubelet.data.packing import Package, measure_files, plan_shards, write_shard
from tubelet.data.processes import map_in_processes
from tubelet.data.rendition import Rendition, name_ending, render
from tubelet.data.sample import Sample
from tubelet.data.shards import list_files
from tubelet.errors import ConfigError, DataError, VideoError
from tubelet.video.opening import FileRange

__all__ = ["Edition", "make_edition"]

_HOME = EDITION_HOME
_MANIFEST = "manifest.csv"
_BAD = "bad_samples.jsonl"

OnStep = Callable[[int, int], None]


class Edition(NamedTuple):
    """State what was made."""

    path: Path | None
    """What every command takes as data; None where other parts are still to come."""
    clips: int
    """Clips that are there, of this part."""
    bad: tuple[BadSample, ...]
    """Clips that could not be read and are left out."""
    bytes_before: int
    """Of the files that these clips came from."""
    bytes_after: int
    """Of the files of this edition; 0 where other parts are still to come."""


def make_edition(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    rendition: Rendition | None,
    *,
    shard_bytes: int | None = None,
    part: tuple[int, int] = (1, 1),
    workers: int = 2,
    on_step: OnStep = lambda _done, _total: None,
) -> Edition:
    """Store all clips of a set anew, or go on where such a run was cut.

    Args:
        data: a folder of class folders, a manifest, shards, an .npz file, or a name of the catalogue.
        output: a new folder, or one in which the same was begun.
        rendition: how each clip is stored; None packs files as they are.
        shard_bytes: pack into shards of this size; None leaves loose files and a table.
        part: do part i of n (from 1) only; what all parts leave, a run with the whole (1, 1) puts together.
        workers: processes.
        on_step: called with (done, total) of the clips of this part.

    Raises:
        ConfigError: options that do not fit each other, the data, or what the folder was begun with.
        DataError: no such data, or no clip of it that can be read.
        DiskFull: no room; it goes on when there is.
    """
    manifest = open_data(data, split_if_missing=False)
    output = Path(os.path.abspath(output))  # noqa: PTH100 - resolve() would replace links by what they point to
    _check_wish(manifest, output, rendition, shard_bytes)
    job = _Job(manifest, output, rendition, shard_bytes, part)
    with _hold(output / _HOME, alone=part[1] == 1):
        job.claim()
        if part[1] == 1:
            job.remove_leftovers()
        return job.run(workers, on_step)


def _check_wish(manifest: Manifest, output: Path, rendition: Rendition | None, shard_bytes: int | None) -> None:
    if rendition is None and shard_bytes is None:
        raise ConfigError(
            "cannot prepare clips - nothing was asked for - add --short-side 256 or --gop 12 to re-encode, --frames 32 "
            "to store frames, or --tar to pack files as they are."
        )
    if shard_bytes is not None and shard_bytes < 1:
        raise ConfigError(f"cannot pack shards of {shard_bytes} bytes - give megabytes above 0.")
    if any(sample.features is not None for sample in manifest.samples):
        raise ConfigError(
            f"cannot prepare '{manifest.origin}' - it holds features, no pictures - train on it as it is."
        )
    if rendition is None and any(sample.row is not None for sample in manifest.samples):
        raise ConfigError(
            f"cannot pack '{manifest.origin}' as it is - its clips are rows of arrays, no files - add --gop 12, or "
            "--frames with --store npz."
        )
    origin = Path(manifest.origin)
    if origin.is_dir() and output.resolve().is_relative_to(origin.resolve()):
        raise ConfigError(
            f"cannot write into '{output}' - the clips are read from '{origin}' - choose a folder outside."
        )


class _Render:
    """Render a clip; picklable, for worker processes."""

    def __init__(self, rendition: Rendition) -> None:
        self._rendition = rendition

    def __call__(self, task: "_Task") -> BadSample | None:
        try:
            render(task.sample, task.target, self._rendition)
        except (VideoError, DataError) as error:
            return BadSample(task.index, task.sample.name, error.code, str(error))
        return None


@dataclass(frozen=True)
class _Task:
    index: int
    sample: Sample
    target: Path


def _give_up(task: _Task) -> BadSample:
    message = f"cannot use {task.sample.name!r} - reading it ends the process (a fault, or no memory) - convert it."
    return BadSample(task.index, task.sample.name, "crashed", message)


@dataclass
class _Job:
    manifest: Manifest
    output: Path
    rendition: Rendition | None
    shard_bytes: int | None
    part: tuple[int, int]

    def __post_init__(self) -> None:
        self.home = self.output / _HOME
        self.clips = self.output if self.shard_bytes is None else self.home / "clips"
        self.keys = name_clips(self.manifest)
        self.parts = Counter(sample.video for sample in self.manifest.samples)
        self.stored = [self._place(sample, key) for sample, key in zip(self.manifest.samples, self.keys, strict=True)]

    def _place(self, sample: Sample, key: str) -> Sample:
        """Say what a clip will be."""
        if self.rendition is None:
            return sample
        target = f"{self.clips / key}{name_ending(self.rendition)}"
        whole: dict[str, Any] = dict.fromkeys(("start_s", "end_s", "member", "row", "extent", "line"))
        group = sample.group
        if group is None and self.parts[sample.video] > 1:
            # Parts of one video become files of their own, and must stay on one side all the same.
            group = self.manifest.short_name(replace(sample, start_s=None, end_s=None))
        return replace(sample, source=target, group=group, **whole)

    def claim(self) -> None:
        """Write down what was asked for, or compare it with what was asked for before.

        Raises:
            ConfigError: a folder in which something else was begun, or lies.
        """
        path = self.home / "job.json"
        rendition = {} if self.rendition is None else asdict(self.rendition)
        wish = {
            "data": self._hash_manifest(),
            "kind": "files" if self.rendition is None else type(self.rendition).__name__,
            **rendition,
            "shard_bytes": self.shard_bytes,
        }
        if path.exists():
            begun = json.loads(path.read_text())
            changed = [name for name in {**begun, **wish} if begun.get(name) != wish.get(name)]
            told = ", ".join(
                "of other clips or labels" if name == "data" else f"with {name} {begun.get(name)}, not {wish.get(name)}"
                for name in changed
            )
            if changed:
                raise ConfigError(f"cannot go on in '{self.output}' - it was begun {told} - choose another folder.")
            return
        foreign = sorted(entry.name for entry in self.output.iterdir() if entry.name != _HOME)
        if foreign:
            raise ConfigError(f"cannot write into '{self.output}' - it holds {foreign[0]!r} - choose an empty folder.")
        files.write_json(path, wish)

    def _hash_manifest(self) -> str:
        rows = [
            [self.manifest.short_name(sample), sample.group, *sorted(sample.metadata.items())]
            for sample in self.manifest.samples
        ]
        return files.hash_bytes(json.dumps([self.manifest.digest, rows]).encode())

    def remove_leftovers(self) -> None:
        """Remove what killed runs left half-written."""
        folders = {Path(sample.source).parent for sample in self.stored} if self.rendition is not None else set()
        for folder in (self.output, *folders):
            if folder.is_dir():
                files.remove_leftovers(folder)
                for half in folder.glob(".*.new"):
                    shutil.rmtree(half, ignore_errors=True)

    def run(self, workers: int, on_step: OnStep) -> Edition:
        """Do what is not done yet."""
        number, count = self.part
        is_last = count == 1
        plan_path = self.home / "shards.json"
        mine = range(number - 1, len(self.stored), count)
        bad: list[BadSample] = []
        if self.rendition is not None and not plan_path.exists():
            bad = self._render(mine, workers, on_step)
        if self.shard_bytes is not None and (is_last or self.rendition is None):
            bad = self._pack(plan_path, bad, on_step)
        missing = {one.index for one in bad}
        done = [index for index in (range(len(self.stored)) if is_last else mine) if index not in missing]
        if is_last:
            self._finish(done, bad)
        before_bytes = _sum_sizes([self.manifest.samples[index] for index in done])
        after_bytes = _sum_tree(self.output) if is_last else 0
        path = None if not is_last else self.output if self.shard_bytes is not None else self.output / _MANIFEST
        return Edition(path, len(done), tuple(bad), before_bytes, after_bytes)

    def _render(self, mine: range, workers: int, on_step: OnStep) -> list[BadSample]:
        assert self.rendition is not None
        samples = self.manifest.samples
        tasks = [_Task(index, samples[index], Path(self.stored[index].source)) for index in mine]
        todo = [task for task in tasks if not task.target.exists()]
        done, bad = len(tasks) - len(todo), []
        on_step(done, len(tasks))
        for outcome in map_in_processes(_Render(self.rendition), todo, workers, _give_up):
            done += 1
            on_step(done, len(tasks))
            if outcome is not None:
                bad.append(outcome)
        return bad

    def _pack(self, plan_path: Path, bad: list[BadSample], on_step: OnStep) -> list[BadSample]:
        """Write the shards of this part that are not there; return the clips that are in none."""
        if not plan_path.exists():
            self._plan(plan_path, bad)
        plan = json.loads(plan_path.read_text())
        indices = {key: index for index, key in enumerate(self.keys)}
        mine = [name for place, name in enumerate(plan["shards"]) if place % self.part[1] == self.part[0] - 1]
        done, total = 0, sum(len(plan["shards"][name]) for name in mine)
        for name in mine:
            own = [indices[key] for key in plan["shards"][name]]
            if not (self.output / name).exists():
                write_shard(self.output / name, map(self._wrap, own))
            if self.rendition is not None:
                for index in own:
                    _remove(Path(self.stored[index].source))
            done += len(own)
            on_step(done, total)
        return [BadSample(**one) for one in plan["bad"]]

    def _plan(self, plan_path: Path, bad: list[BadSample]) -> None:
        missing = {one.index: one for one in bad}
        sizes = {}
        for index, (key, sample) in enumerate(zip(self.keys, self.stored, strict=True)):
            if index in missing:
                continue
            try:
                sizes[key] = measure_files(sample)
            except (VideoError, DataError) as error:
                missing[index] = BadSample(index, sample.name, error.code, str(error))
        splits = {key: sample.split for key, sample in zip(self.keys, self.stored, strict=True)}
        shards = plan_shards(sizes, splits, self.shard_bytes or 0)
        files.write_json(plan_path, {"shards": shards, "bad": [asdict(missing[index]) for index in sorted(missing)]})

    def _wrap(self, index: int) -> Package:
        sample = self.stored[index]
        is_single = self.manifest.task == "classification"
        return Package(self.keys[index], sample, self.manifest.label_index(sample) if is_single else None)

    def _finish(self, done: Sequence[int], bad: Sequence[BadSample]) -> None:
        """Write what makes the folder a data set."""
        lines = "".join(f"{json.dumps(asdict(one))}\n" for one in bad)
        if bad:
            files.write_text(self.output / _BAD, lines)
        else:
            (self.output / _BAD).unlink(missing_ok=True)
        if not done:
            raise DataError(
                f"cannot prepare '{self.manifest.origin}' - none of its {len(bad)} clips can be read, "
                f"'{self.output / _BAD}' says why - 'tubelet data check' looks at them."
            )
        write_classes(self.output / CLASS_LIST, self.manifest.classes)
        files.write_json(self.home / DONE_NAME, {"clips": len(done)})
        if self.shard_bytes is None:
            stored = tuple(self.stored[index] for index in done)
            write_manifest(replace(self.manifest, samples=stored), self.output / _MANIFEST)
        else:
            shutil.rmtree(self.home / "clips", ignore_errors=True)


@contextmanager
def _hold(folder: Path, *, alone: bool) -> Iterator[None]:
    """Keep others out of a folder while one process puts it together; parts may work side by side.

    Raises:
        ConfigError: somebody else is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with (folder / "lock").open("ab") as stream:
        try:
            fcntl.flock(stream, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"cannot work in '{folder.parent}' - another run does - wait until it has ended; only runs "
                "with --shard work side by side."
            ) from None
        except OSError:
            pass  # some network disks know no locks
        yield


def _remove(stored: Path) -> None:
    if stored.is_dir():
        shutil.rmtree(stored, ignore_errors=True)
    else:
        stored.unlink(missing_ok=True)


def _sum_sizes(samples: Sequence[Sample]) -> int:
    """Count the bytes of the files of samples, each file once."""
    found = {file for sample in samples for file in list_files(sample)}
    return sum(file.size_bytes if isinstance(file, FileRange) else Path(file).stat().st_size for file in found)


def _sum_tree(folder: Path) -> int:
    """Count the bytes of all visible files below a folder."""
    total_bytes = 0
    for parent, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        total_bytes += sum((Path(parent) / name).stat().st_size for name in names if not name.startswith("."))
    return total_bytes
