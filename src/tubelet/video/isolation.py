"""Decode what strangers send in processes that hold nothing and may die.

    this process                                            a worker: limits, no secrets, no files, no network
    DecodeWorkers.read  -- what is wanted, the bytes -->    the gate, a decoder, the frames
                        <-- what it is, its pixels ----

A codec is the likeliest place for a memory error, so whoever takes files of others decodes here. A worker that takes
too long is killed, one that dies fails the request it had and no other, and another takes its place. What comes back is
read with suspicion too: plain JSON, and as many bytes of pixels as it states and we allow.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64

from tubelet.errors import Corrupt, DecoderCrashed, DecodeTimeout, TooLarge, VideoError
from tubelet.video.clip import Pixels, VideoInfo
from tubelet.video.spec import InputSpec

__all__ = [
    "ByteSource",
    "DecodeLimits",
    "DecodeWorkers",
    "Reading",
    "Wanted",
    "check_result",
    "read_message",
    "write_message",
]

_MAX_HEADER_BYTES = 16 << 20
"""Of a message; a day of frames has that many times to state."""
_PIECE_BYTES = 1 << 20
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "TMPDIR")
"""Of the environment: what a program needs to start, and nothing that somebody may have put a password into."""


@runtime_checkable
class ByteSource(Protocol):
    """Read bytes from a position that can be set, as an open file does."""

    def read(self, count: int, /) -> bytes:
        """Return up to `count` bytes."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Set the position."""


@dataclass(frozen=True)
class DecodeLimits:
    """State what one request may take."""

    seconds: float = 30.0
    """Time by the clock, decoder start included; as much processor time, where the system can limit it."""
    memory_bytes: int = 3 << 30
    """Address space of a worker; Linux only."""
    result_bytes: int = 512 << 20
    """Pixels that may come back; pictures are reduced before that, see `Reading`."""


@dataclass(frozen=True)
class Wanted:
    """Say which frames of a source are wanted."""

    spec: InputSpec
    """The contract of the model that is to see them."""
    views: int = 1
    """Clips spread over the source."""
    segments: int = 0
    """Further clips, one of each of so many equal parts of the source, or of fewer where it is short."""
    is_picture: bool = False
    """The source is one JPEG picture, not a video."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Hold what was wanted of a source.

    Frames that are together larger than 64 MB are reduced by a whole number, never below the model's size.
    """

    name: str
    """What messages call it."""
    info: VideoInfo
    pixels: Pixels
    """Each frame once."""
    times_s: Float64[np.ndarray, " frame"]
    """When each of them is shown, in seconds from the source's first frame."""
    rows: Int64[np.ndarray, "clip frames"]
    """Places in `pixels`: of the views, then of the segments."""
    spans_s: Float64[np.ndarray, "clip 2"]
    """Seconds that each clip stands for: from, to."""


class DecodeWorkers:
    """Keep some decode workers, and let them read one source each at a time.

    Args:
        count: processes.
        limits: what one request may take.

    Raises:
        DecoderCrashed: workers cannot even start here.

    Cost: 0.3 s a worker to start, about 60 MB each.
    """

    def __init__(self, count: int = 1, limits: DecodeLimits | None = None) -> None:
        self.limits = limits or DecodeLimits()
        self.restarts = 0
        self._is_closed = False
        self._idle: queue.Queue[_Worker] = queue.Queue()
        workers = [_Worker(self.limits) for _ in range(count)]
        try:
            given_up = [worker.greet() for worker in workers]
        except VideoError:
            for worker in workers:
                worker.close()
            raise
        self.given_up = given_up[0]
        """What workers can reach no more, as far as the system lets them give it up: `files`, `network`."""
        self._all = set(workers)
        for worker in workers:
            self._idle.put(worker)

    @property
    def pids(self) -> list[int]:
        """List the processes, for whoever watches them."""
        return sorted(worker.process.pid for worker in self._all)

    def read(self, source: bytes | ByteSource, wanted: Wanted, *, name: str = "<upload>") -> Reading:
        """Read frames of a file; waits while all workers are busy.

        Args:
            source: its bytes, or an open file that is read from its beginning.
            wanted: which frames.
            name: what messages call it; it reaches no decoder.

        Raises:
            VideoError: as `Video` raises; `timeout`, where it takes too long; `decoder_crashed`, where the worker dies.
        """
        worker = self._idle.get()
        try:
            return worker.read(BytesIO(source) if isinstance(source, bytes) else source, wanted, name)
        finally:
            self._idle.put(worker if worker.is_alive else self._replace(worker))

    def _replace(self, worker: "_Worker") -> "_Worker":
        worker.close()
        self._all.discard(worker)
        if self._is_closed:
            return worker
        self.restarts += 1
        other = _Worker(self.limits)
        self._all.add(other)
        return other

    def close(self) -> None:
        """End all workers; whoever still waits for one gets `decoder_crashed`."""
        self._is_closed = True
        for worker in list(self._all):
            worker.kill()
        # Those at work are closed by whoever waits for them, who also puts them back.
        for _ in range(self._idle.qsize()):
            worker = self._idle.get()
            worker.close()
            self._idle.put(worker)

    def __enter__(self) -> "DecodeWorkers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Worker:
    """Talk to one process."""

    def __init__(self, limits: DecodeLimits) -> None:
        self.limits = limits
        self.is_alive = True
        self.given_up: tuple[str, ...] | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tubelet.video.worker", json.dumps(asdict(limits))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_make_environment(),
            cwd=os.path.abspath(os.sep),  # noqa: PTH100 - of Windows, too
            start_new_session=os.name == "posix",
        )

    def greet(self) -> tuple[str, ...]:
        """Wait until it is ready, and return what it has given up."""
        if self.given_up is None:
            with self._watching("<start>"):
                self.given_up = tuple(map(str, read_message(_get(self.process.stdout), 0)[0]["given_up"]))
        return self.given_up

    def read(self, source: ByteSource, wanted: Wanted, name: str) -> Reading:
        """Have one source read."""
        self.greet()
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        with self._watching(name):
            write_message(_get(self.process.stdin), {"wanted": asdict(wanted), "name": name}, source, size)
            said, payload = read_message(_get(self.process.stdout), self.limits.result_bytes)
        if "code" in said:
            raise _find_error(str(said["code"]))(str(said.get("message", "")))
        try:
            return _understand(name, said, payload)
        except (KeyError, TypeError, ValueError):
            self.is_alive = False
            raise _explain_crash(name) from None

    @contextlib.contextmanager
    def _watching(self, name: str) -> Iterator[None]:
        """Kill the process where it takes too long, and say what became of it."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self.kill()

        # A worker that just starts has that to do as well.
        timer = threading.Timer(self.limits.seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, EOFError, ValueError):
            self.is_alive = False
            if expired.is_set():
                raise DecodeTimeout(
                    f"cannot read {name!r} - decoding took over {self.limits.seconds:g} s - cut the clip, or scale it "
                    "down."
                ) from None
            raise _explain_crash(name) from None
        finally:
            timer.cancel()
            self.is_alive = self.is_alive and not expired.is_set()

    def kill(self) -> None:
        """End the process, and what it may have started, at once: whoever reads from it comes to an end."""
        self.is_alive = False
        if os.name == "posix" and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def close(self) -> None:
        """End the process and give its pipes back; nobody may read from them meanwhile."""
        self.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                _get(pipe).close()


def _make_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100 - an empty one is where we are
    return {**kept, **one_thread, "PYTHONPATH": os.pathsep.join(paths)}


def _get(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def write_message(pipe: IO[bytes], header: Mapping[str, Any], payload: ByteSource, size: int) -> None:
    """Write a message: the length of a JSON object, that object, and as many bytes as it states.

    Args:
        pipe: to whom.
        header: JSON values.
        payload: read from where it stands.
        size: its bytes.

    Raises:
        EOFError: the payload ends before.
    """
    text = json.dumps({**header, "size": size}).encode()
    pipe.write(len(text).to_bytes(4, "big") + text)
    while size:
        piece = payload.read(min(size, _PIECE_BYTES))
        if not piece:
            raise EOFError("the payload is shorter than stated")
        pipe.write(piece)
        size -= len(piece)
    pipe.flush()


def read_message(pipe: IO[bytes], most_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Read what `write_message` wrote.

    Raises:
        EOFError: nobody writes any more.
        ValueError: it is none, or larger than allowed.
    """
    length = int.from_bytes(_read_whole(pipe, 4), "big")
    if length > _MAX_HEADER_BYTES:
        raise ValueError("a header too large")
    header = json.loads(_read_whole(pipe, length))
    size = header.pop("size") if isinstance(header, dict) else None
    if not isinstance(size, int) or not 0 <= size <= most_bytes:
        raise ValueError("a payload too large, or no message at all")
    return header, _read_whole(pipe, size)


def _read_whole(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError("the message ends early")
    return data


def _understand(name: str, said: Mapping[str, Any], payload: bytes) -> Reading:
    """Make a reading of what a worker said; anything that does not fit together is a ValueError."""
    pixels = np.frombuffer(payload, np.uint8).reshape(said["shape"])
    rows = np.array(said["rows"], np.int64)
    times_s, spans_s = np.array(said["times_s"], np.float64), np.array(said["spans_s"], np.float64)
    is_whole = pixels.ndim == 4 and rows.ndim == 2 and rows.size > 0 and spans_s.shape == (len(rows), 2)
    if not is_whole or times_s.shape != pixels.shape[:1] or not 0 <= rows.min() <= rows.max() < len(pixels):
        raise ValueError("parts that do not fit")
    spacing = said["info"].pop("spacing_mm")
    info = VideoInfo(**said["info"], spacing_mm=None if spacing is None else tuple(spacing))
    return Reading(name, info, pixels, times_s, rows, spans_s)


def _explain_crash(name: str) -> DecoderCrashed:
    return DecoderCrashed(
        f"cannot read {name!r} - the process that decoded it ended - try again; where it happens again, the file is "
        "damaged in a way that its decoder cannot stand: convert it."
    )


def _find_error(code: str) -> type[VideoError]:
    """Return the class of a code; one that nobody knows is that of a damaged file."""
    known: list[type[VideoError]] = [VideoError]
    for kind in known:
        known += kind.__subclasses__()
    return next((kind for kind in known if kind.code == code), Corrupt)


def check_result(size: int, most_bytes: int, name: str) -> None:
    """Refuse pixels that are more than may be sent.

    Raises:
        TooLarge: they are.
    """
    if size > most_bytes:
        raise TooLarge(
            f"cannot send frames of {name!r} - they take {size} bytes, the limit is {most_bytes} - ask for fewer clips."
        )
