"""Open each file of a list in a process of its own and write down what came out.

One warm parent forks a child per file, so that a child costs milliseconds. The parent watches the clock, peak memory,
what the child said on stderr and whether it held a socket. It runs as a program and imports no test framework.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .pictures import read_colors, read_number, readable, turn_back

WALL_S = 5.0


@dataclass
class Job:
    """One file to open: by its path or from memory."""

    key: str
    source: str
    turn: tuple[int, bool] = (0, False)
    from_memory: bool = False


@dataclass
class Outcome:
    """What opening one file gave."""

    key: str
    kind: str = "nothing"
    """`frames`, `error` (a TubeletError), `foreign` (any other exception), `killed` (too slow) or `nothing` (died)."""
    detail: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    extra_mb: float = 0.0
    stderr: str = ""
    sockets: int = 0
    status: int = 0
    from_memory: bool = False


def _memory_kb(field_name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(field_name + ":")[1].split()[0])


def _look(job: Job) -> tuple[str, dict[str, Any]]:
    """Read every frame (of a long video: 16), then some of them singly, backwards."""
    from tubelet.errors import TubeletError
    from tubelet.video.source import Video

    source: Any = Path(job.source).read_bytes() if job.from_memory else job.source
    try:
        with Video(source) as video:
            info = video.info
            count = info.num_frames
            indices = list(range(count)) if count <= 64 else np.linspace(0, count - 1, 16).astype(int).tolist()
            clip = video.frames_at(indices)
            # One call for each: a call with many indices may sort them and never seek.
            places = range(len(indices) - 1, -1, -max(1, len(indices) // 6)) if clip.pixels.nbytes < 50_000_000 else ()
            same = [np.array_equal(video.frames_at([indices[place]]).pixels[0], clip.pixels[place]) for place in places]
    except TubeletError as error:
        return "error", {"type": type(error).__name__, "code": error.code, "text": str(error)}
    except BaseException as error:
        return "foreign", {"type": type(error).__name__, "text": str(error)[:500]}
    pictures = [turn_back(picture, *job.turn) for picture in clip.pixels]
    told = bool(pictures) and readable(*pictures[0].shape[:2])
    return "frames", {
        "count": count,
        "shape": list(clip.pixels.shape),
        "times_s": clip.times_s.tolist(),
        "numbers": [read_number(picture) for picture in pictures] if told else None,
        "colors": read_colors(pictures[-1]) if pictures else None,
        "same_backwards": all(same),
        "info": {key: value for key, value in asdict(info).items() if isinstance(value, int | float | str)},
    }


def _child(job: Job, out: int, err: int) -> None:
    os.dup2(err, 2)
    with suppress(OSError):  # forget the parent's peak
        Path("/proc/self/clear_refs").write_text("5")
    with suppress(OSError, ValueError):  # a mark that a system call trace shows
        os.open(f"/corpus-mark/{job.key}", os.O_RDONLY)
    before = _memory_kb("VmRSS")
    start = time.monotonic()
    kind, detail = _look(job)
    seconds = time.monotonic() - start
    extra_mb = (_memory_kb("VmHWM") - before) / 1024
    payload = json.dumps({"kind": kind, "detail": detail, "seconds": seconds, "extra_mb": extra_mb}).encode()
    with os.fdopen(out, "wb") as pipe:
        pipe.write(payload)
    os._exit(0)


def _sockets_of(pid: int) -> int:
    with suppress(OSError):
        return sum(str(entry.readlink()).startswith("socket:") for entry in Path(f"/proc/{pid}/fd").iterdir())
    return 0


class Running:
    """One forked child and what it has said so far."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job = job
        self.start = time.monotonic()
        self.said = folder / f"{job.key}.{os.getpid()}.{int(job.from_memory)}.err"
        self.pipe, write = os.pipe()
        err = os.open(self.said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        self.parts: list[bytes] = []
        self.sockets = 0
        self.pid = os.fork()
        if self.pid == 0:
            os.setpgid(0, 0)
            os.nice(5)  # the watching parent goes first
            signal.setitimer(
                signal.ITIMER_REAL, WALL_S + 0.5
            )  # unhandled, it ends the process even where the parent cannot
            os.close(self.pipe)
            _child(job, write, err)
        os.close(write)
        os.close(err)

    def step(self) -> Outcome | None:
        """Take what has come; return the outcome once the child is done or too slow."""
        self.sockets = max(self.sockets, _sockets_of(self.pid))
        ready, _, _ = select.select([self.pipe], [], [], 0.002)
        if ready:
            part = os.read(self.pipe, 1 << 20)
            self.parts.append(part)
            if part:
                return None
            late = time.monotonic() - self.start > WALL_S
            return self._finish("killed" if late and not any(self.parts) else "nothing")
        if time.monotonic() - self.start > WALL_S:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            return self._finish("killed")
        return None

    def _finish(self, kind: str) -> Outcome:
        _, status = os.waitpid(self.pid, 0)
        with suppress(ProcessLookupError):  # whatever it started must not outlive it
            os.killpg(self.pid, signal.SIGKILL)
        os.close(self.pipe)
        outcome = Outcome(
            self.job.key,
            kind,
            from_memory=self.job.from_memory,
            seconds=time.monotonic() - self.start,
            status=status,
            sockets=self.sockets,
        )
        payload = b"".join(self.parts)
        if payload and kind != "killed":
            for name, value in json.loads(payload).items():
                setattr(outcome, name, value)
        outcome.stderr = self.said.read_text(errors="replace")[:2000]
        return outcome


def run(jobs: list[Job], folder: Path, width: int) -> Iterator[Outcome]:
    """Run the jobs, `width` at a time."""
    waiting, running = list(jobs), []
    while waiting or running:
        while waiting and len(running) < width:
            running.append(Running(waiting.pop(0), folder))
        for child in list(running):
            outcome = child.step()
            if outcome is not None:
                running.remove(child)
                yield outcome


def main() -> None:
    """Read jobs from the first file, write outcomes to the second."""
    import tubelet.video.source  # noqa: F401  warm: the children inherit it

    jobs_file, answers_file, width = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    jobs = [Job(**row) for row in json.loads(jobs_file.read_text())]
    with answers_file.open("w") as answers:
        for outcome in run(jobs, answers_file.parent, width):
            answers.write(json.dumps(asdict(outcome)) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
