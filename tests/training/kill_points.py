"""Kill one small run at chosen points of its life, go on each time, and print what came out beside the run left alone.

    python kill_points.py FOLDER WORKERS PROCESSES

A program of its own: it imports everything once and forks each attempt, one child for each process of the run, so that
twelve kills take seconds. In the child that is to die the calls to the system are counted (open files' writes, fsync,
rename, unlink); before the one that was chosen, or with half of its bytes written, it sends SIGKILL to itself.
"""

import hashlib
import io
import json
import multiprocessing
import os
import random
import re
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tubelet.training.train  # noqa: F401 - imported before the fork, so that attempts start at once
from tubelet import files, train
from tubelet.classifier import Classifier
from tubelet.evaluation import report
from tubelet.recipes.optimization import OptimizerRecipe
from tubelet.recipes.recipe import DataRecipe, ModelRecipe, Recipe, TrainingRecipe
from tubelet.training import session, trainer
from tubelet.training.pace import PACE
from tubelet.training.progress import Quiet
from tubelet.training.run import load_checkpoint
from tubelet.training.step import Stepper
from tubelet.transforms.policy import Augmentation
from tubelet.video.spec import InputSpec

EPOCHS, STEPS, BATCHES = 3, 5, 3
"""Epochs, steps of the optimizer in each, batches of held-out clips after each."""
SAVE_EVERY = 2

WRITES = (
    *("write last.ckpt.next 1", "write last.ckpt.next 2", "fsync last.ckpt.next", "replace last.ckpt.next"),
    *("fsync folder of last.ckpt.next", "replace previous.ckpt", "replace last.ckpt"),
    *("write metrics.csv 1", "fsync metrics.csv", "replace metrics.csv", "fsync folder of metrics.csv"),
    *("write model.safetensors 1", "write config.json 1", "fsync model.safetensors", "fsync .model.new"),
    *("rename .model.old", "rename model", "fsync folder of model", "unlink model.safetensors", "unlink config.json"),
)
"""What a run does to its disk when it saves: it is killed in each of these."""
EDGES = ("start", "epoch 1", "epoch 2", "epoch 3", "end")
GROUPS = ((0, 1), (2, 1), (0, 2), (2, 2))
"""(loader workers, processes of the run)."""


@dataclass(frozen=True)
class Point:
    """State where a process of a run dies."""

    kind: str
    """write, step, validation or edge."""
    what: str
    """Which of that kind: what `Life.reach` is told."""
    occurrence: int
    """The how manieth of them, from 0."""
    rank: int = 0
    """The process that dies."""


def list_kinds(group: int) -> list[tuple[str, str]]:
    """Share 20 writes, 20 steps, 5 batches of validation and 5 edges of epochs out to the four groups."""
    writes = [("write", what) for what in WRITES[group::4]]
    steps = [("step", ("before step", "after step")[number % 2]) for number in range(5)]
    validation = [("validation", "validation")] * len(range(group, 5, 4))
    return [*writes, *steps, *validation, *(("edge", what) for what in EDGES[3 - group :: 4])]


class Life:
    """Count what one process does for its run, and end it at its point.

    Args:
        folder: of the run; what happens elsewhere does not count.
        point: where it ends; None lets it live.
        diary: a file that outlives the process.
    """

    def __init__(self, folder: Path, point: Point | None, diary: Path) -> None:
        self.folder = os.fspath(folder)
        self.point = point
        self.diary = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.pid = os.getpid()
        self.counts: dict[str, int] = {}
        self.whole = ""
        """The file that is being written whole, under another name until it is."""

    def note(self, *words: object) -> None:
        """Write a line into the diary."""
        os.write(self.diary, (" ".join(map(str, words)) + "\n").encode())

    def reach(self, what: str, last_deed: Callable[[], object] = lambda: None) -> None:
        """Come to something that is counted, and die there if this is the point."""
        count = self.counts.get(what, 0)
        self.counts[what] = count + 1
        if self.point is not None and (self.point.what, self.point.occurrence) == (what, count):
            last_deed()
            self.note("killed", what, count)
            os.kill(os.getpid(), signal.SIGKILL)

    def is_counted(self, path: str) -> bool:
        """Tell whether something happens in this process, not in a worker of its, and to the run's folder."""
        return os.getpid() == self.pid and path.startswith(self.folder)


class Written(io.FileIO):
    """Write a file, and come to each call to the system that does."""

    def __init__(self, path: str, mode: str, life: Life) -> None:
        super().__init__(path, mode)
        self.life = life
        self.label = f"write {life.whole or Path(path).name}"
        self.calls = 0

    def write(self, data: Any) -> int:
        """Write; where the process is to die here, half of it."""
        self.calls += 1
        half = memoryview(data)[: len(data) // 2]
        self.life.reach(f"{self.label} {self.calls}", lambda: super(Written, self).write(half))
        return super().write(data)


def watch_writes(life: Life) -> None:
    """Have each write to a file below the run's folder come by."""
    open_file = io.open

    def open_counted(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **keywords: Any) -> Any:
        if mode not in ("w", "wb", "xb") or not life.is_counted(str(file)):
            return open_file(file, mode, buffering, *rest, **keywords)
        stream = io.BufferedWriter(Written(str(file), mode.removesuffix("b"), life))
        return io.TextIOWrapper(stream, encoding="utf-8") if mode == "w" else stream

    io.open = open_counted


def watch_syncs(life: Life) -> None:
    """Have each fsync of a file or folder come by; the run's own folder is named after what was put there."""
    fsync = os.fsync

    def fsync_counted(descriptor: int) -> None:
        path = find_open(descriptor)
        if life.is_counted(path):
            is_folder = path == life.folder
            name = life.whole or ("model" if is_folder else Path(path).name)
            life.reach(f"fsync {'folder of ' if is_folder else ''}{name}")
        fsync(descriptor)

    os.fsync = fsync_counted


def watch_names(life: Life, call: str, place: int) -> None:
    """Have each call that gives or takes a name below the run's folder come by; `place` is that of the name."""
    real = getattr(os, call)

    def counted(*paths: Any, **keywords: Any) -> None:
        folder = find_open(keywords["dir_fd"]) if keywords.get("dir_fd") is not None else ""
        path = Path(folder, paths[place])
        if life.is_counted(os.fspath(path)):
            life.reach(f"{call} {path.name}")
        real(*paths, **keywords)

    setattr(os, call, counted)


def find_open(descriptor: int) -> str:
    """Find the path of an open file or folder."""
    return os.fspath(Path(f"/proc/self/fd/{descriptor}").readlink())


def watch_run(life: Life, rank: int) -> None:
    """Have steps, batches of validation and files that are written whole come by."""
    take, score, write_whole = Stepper.take, Classifier.score, files.write_whole

    def take_counted(self: Stepper, held: Any, epoch: int) -> Any:
        life.reach("before step")
        outcome = take(self, held, epoch)
        if rank == 0:
            life.note("step", epoch, held[-1][0])
        life.reach("after step")
        return outcome

    def score_counted(self: Classifier, *arguments: Any, **keywords: Any) -> Any:
        life.reach("validation")
        return score(self, *arguments, **keywords)

    @contextmanager
    def write_whole_named(path: Any, *arguments: Any, **keywords: Any) -> Iterator[Any]:
        life.whole = Path(path).name
        try:
            with write_whole(path, *arguments, **keywords) as stream:
                yield stream
        finally:
            life.whole = ""

    Stepper.take, Classifier.score, files.write_whole = take_counted, score_counted, write_whole_named


class Edges(Quiet):
    """Have the edges of epochs come by; nothing is to be remarked on."""

    def __init__(self, life: Life) -> None:
        self.life = life

    def on_start(self, *_: object) -> None:
        """Come to the first epoch."""
        self.life.reach("start")

    def on_epoch(self, row: Any) -> None:
        """Come to the end of an epoch."""
        self.life.reach(f"epoch {row['epoch']:.0f}")

    def on_remark(self, text: str) -> None:
        """Say what nobody should have to hear."""
        self.life.note("remark", text)

    def on_end(self, *_: object) -> None:
        """Come to the end of the last."""
        self.life.reach("end")


def make_clips(path: Path) -> None:
    """Write tiny clips of noise, brighter in one of two classes."""
    generator = np.random.default_rng(0)
    labels = np.arange(30) % 2
    clips = generator.integers(0, 156, (30, 4, 8, 8, 1)) + 100 * labels[:, None, None, None, None]
    np.savez(path, x=clips.astype(np.uint8), y=labels, split=np.array(["train"] * 20 + ["val"] * 6 + ["test"] * 4))


def make_recipe(data: str, workers: int) -> Recipe:
    changes = {"depth": 1, "temporal_depth": 1, "dim": 16, "heads": 2, "mlp_dim": 32, "dropout": 0.1}
    return Recipe(
        data=DataRecipe(source=data, workers=workers, cache_mb=1),
        model=ModelRecipe("vivit_nano_factorized_encoder", changes),
        input=InputSpec(frames=4, height=8, width=8, channels=1),
        augmentation=Augmentation(horizontal_flip=0.5, shift=0.2, mixup=0.8),
        optimizer=OptimizerRecipe(lr=1e-3, ema=0.9),
        training=TrainingRecipe(
            epochs=EPOCHS, batch=2, accumulate=2, save_every_steps=SAVE_EVERY, precision="fp32", keep="last"
        ),
    )


def live(recipe: Recipe, folder: Path, rank: int, point: Point | None) -> None:
    """Train, or go on, in this process."""
    life = Life(folder, point if point is None or point.rank == rank else None, folder.with_suffix(".txt"))
    watch_writes(life)
    watch_syncs(life)
    for call, place in (("replace", 1), ("rename", 1), ("unlink", 0)):
        watch_names(life, call, place)
    watch_run(life, rank)
    is_begun = (folder / "config.yaml").exists()
    train(recipe=recipe, name=folder.name, runs=folder.parent, resume=is_begun, listener=Edges(life))
    if rank == 0:
        life.note("counts", json.dumps(life.counts))


def attempt(recipe: Recipe, folder: Path, processes: int, point: Point | None = None) -> list[int]:
    """Train or go on in children, one for each process of the run; return how they ended (negative: killed)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                # What a process says while another one of its run dies is looked at only where something else is wrong.
                os.dup2(os.open(folder.with_suffix(".err"), os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
                if processes > 1:
                    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
                    os.environ.update({name: str(value) for name, value in places.items()}, MASTER_ADDR="127.0.0.1")
                live(recipe, folder, rank, point)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def describe(folder: Path) -> dict[str, str]:
    """Hash everything that a run leaves, without times, pictures, and the checkpoint before the last."""
    state = load_checkpoint(folder / "last.ckpt")
    for row in (*state["progress"]["history"], state["progress"]["totals"]):
        for name in PACE:
            row.pop(name, None)
    described = {f"last.ckpt {part}": hash_values(values) for part, values in state.items()}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() and path.suffix not in (".ckpt", ".png", ".jsonl") else b""
        if path.name == "metrics.csv":
            content = b"\n".join(b",".join(row.split(b",")[: -len(PACE)]) for row in content.splitlines())
        if path.name == "report.json":
            content = b"\n".join(row for row in content.splitlines() if b'"seconds"' not in row)
        if path.name == "report.html":
            content = re.sub(rb"<td>seconds</td><td>[\d.]+</td>", b"", content)
        described[path.relative_to(folder).as_posix()] = files.hash_bytes(content)
    return described


def hash_values(values: Any) -> str:
    """Hash tensors and plain types, bit by bit."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict | list | tuple):
            for item in value.items() if isinstance(value, dict) else value:
                add(item)
        elif isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
        else:
            digest.update(repr(value).encode())

    add(values)
    return digest.hexdigest()


def read_diary(folder: Path) -> dict[str, list[str]]:
    """Sort the lines of a run's diary by their first word."""
    lines = [line.partition(" ") for line in folder.with_suffix(".txt").read_text().splitlines()]
    return {
        word: [rest for first, _, rest in lines if first == word] for word in ("step", "killed", "remark", "counts")
    }


def choose_points(group: int, counts: dict[str, int]) -> list[Point]:
    """Choose when in a run each kind of kill comes: steps spread over the run, all else at random."""
    chance = random.Random(group)
    processes = GROUPS[group][1]
    points = []
    for number, (kind, what) in enumerate(list_kinds(group)):
        most = EPOCHS * BATCHES if kind == "validation" else counts[what]
        occurrence = chance.randrange(most)
        if what == "replace last.ckpt":
            occurrence = most - 1  # no later save mends what is left
        if kind == "step":
            place = sum(point.kind == "step" for point in points)
            occurrence = place * (EPOCHS * STEPS // 5) + chance.randrange(EPOCHS * STEPS // 5)
        rank = number % processes if kind in ("step", "validation") else 0
        points.append(Point(kind, what, occurrence, rank))
    return points


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)  # imports what takes seconds
    multiprocessing.set_start_method("fork")
    # Drawing is most of the time of so small a run: its pictures are written as always, but empty.
    for module, name in (
        (session, "draw_curves"),
        (session, "draw_augmentations"),
        (trainer, "draw_class_distribution"),
        (report, "draw_confusion"),
    ):
        setattr(module, name, lambda *given: files.write_text(given[-1], ""))
    place, workers, processes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    make_clips(place / "clips.npz")
    recipe = make_recipe(os.fspath(place / "clips.npz"), workers)
    whole = place / "whole"
    assert attempt(recipe, whole, processes) == [0] * processes, whole.with_suffix(".err").read_text()
    diary = read_diary(whole)
    outcomes = []
    for number, point in enumerate(choose_points(GROUPS.index((workers, processes)), json.loads(diary["counts"][0]))):
        folder = place / f"killed-{number}"
        first = attempt(recipe, folder, processes, point)
        assert first[point.rank] == -signal.SIGKILL, folder.with_suffix(".err").read_text()
        assert 0 not in first
        again = attempt(recipe, folder, processes)
        assert again == [0] * processes, folder.with_suffix(".err").read_text()
        outcomes.append({"point": vars(point), "diary": read_diary(folder), "result": describe(folder)})
    print(json.dumps({"steps": diary["step"], "result": describe(whole), "killed": outcomes}))


if __name__ == "__main__":
    main()
