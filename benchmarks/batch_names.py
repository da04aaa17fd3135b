"""Time what a job of very many videos costs beside the videos: listing them, starting, going on, putting together.

    python benchmarks/batch_names.py [--names 1000000] [--files 100000]

Names come from a list, of files that need not exist; and, of fewer, from a folder of empty files. Nothing is predicted:
what a shard would have written is written as it would. Seconds by the clock and of processor time, and the most memory
of a process of its own for each part, which has loaded PyTorch (`start`).
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tubelet.prediction import shards
from tubelet.prediction.sources import list_sources

ROWS = shards.ROWS_A_FILE


def begin(folder: Path, source: Path) -> None:
    shards._open_job(folder, [str(source)], {"shards": 10})


def write_parts(folder: Path, total: int) -> None:
    for shard in range(1, 11):
        own = shards._shard_folder(folder, shard, 10)
        own.mkdir()
        start, stop = total * (shard - 1) // 10, total * shard // 10
        for first in range(start, stop, ROWS):
            rows = "".join(f"/videos/{number}.mp4,a,0.5\n" for number in range(first, min(first + ROWS, stop)))
            (own / f"{first:09d}-{min(first + ROWS, stop):09d}.csv").write_text("source,label,score\n" + rows)


def go_on(folder: Path) -> None:
    """Find that the middle of the last shard lacks one file, and read the names that it holds."""
    total = shards._open_job(folder, [], {"shards": 10})
    own = shards._shard_folder(folder, 10, 10)
    parts = shards._list_parts(own)
    parts.pop(len(parts) // 2)
    ((start, stop),) = shards._find_gaps(parts, total * 9 // 10, total)
    assert sum(1 for _ in shards._read_sources(folder / shards.SOURCES_NAME, start, stop)) == stop - start


def put_together(folder: Path, total: int) -> None:
    assert shards._put_together(folder, total, 10, ["source", "label", "score"])


def read_peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def measure(name: str, work: Callable[..., object], *given: object) -> None:
    def child(sender: object) -> None:
        began, computed_before = time.perf_counter(), time.process_time()
        work(*given)
        computed = time.process_time() - computed_before
        sender.send((time.perf_counter() - began, computed, read_peak_mb()))  # type: ignore[attr-defined]

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=child, args=(sender,))
    process.start()
    seconds, computed, peak_mb = receiver.recv()
    process.join()
    print(f"| {name} | {seconds:.2f} | {computed:.2f} | {peak_mb:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        names = folder / "names.txt"
        with names.open("w") as stream:
            stream.writelines(f"/videos/{number // 1000:04d}/{number:07d}.mp4\n" for number in range(given.names))
        tree = folder / "tree"
        for number in range(given.files):
            if number % 1000 == 0:
                (tree / f"{number // 1000}").mkdir(parents=True)
            (tree / f"{number // 1000}" / f"{number}.mp4").touch()
        print(f"| {given.names:,} names | s | processor s | MB |\n|---|---:|---:|---:|")
        measure("start", lambda: None)
        measure(f"list a folder of {given.files:,} files", lambda: deque(list_sources([str(tree)]), maxlen=0))
        measure("begin a job: read the list and write it down", begin, folder / "job", names)
        write_parts(folder / "job", json.loads((folder / "job" / shards.JOB_NAME).read_text())["count"])
        measure("go on with a shard that lacks 1,000 rows", go_on, folder / "job")
        measure("put all rows together", put_together, folder / "job", given.names)


if __name__ == "__main__":
    main()
