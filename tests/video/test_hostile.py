"""Open every hostile, broken and odd file of the corpus, each in a process of its own, and judge how it ended."""

import ctypes
import errno
import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video.corpus import CORPUS, FFMPEG, Entry, Frames, lay_out
from video.corpus.harness import WALL_S, Job
from video.corpus.pictures import encoded

HARNESS = [sys.executable, "-m", "video.corpus.harness"]
EXTRA_MB = 512
STRACE = shutil.which("strace")
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="watches /proc, inotify and forks")
pytestmark = [on_linux, pytest.mark.timeout(180)]


class Listener:
    """Count what arrives at a loopback port, by TCP and by UDP."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.tcp.getsockname()[1]
        self.heard: list[str] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.tcp.accept()
            except OSError:
                return
            peer.settimeout(0.2)
            with suppress(OSError), peer:
                self.heard.append(peer.recv(200).decode("latin1"))

    def close(self) -> None:
        with suppress(OSError):
            self.tcp.shutdown(socket.SHUT_RDWR)
        self.tcp.close()
        self.thread.join()


@contextmanager
def watched(paths: list[Path], seen: list[str]) -> Iterator[None]:
    """Note every opening or reading of the given files (inotify)."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if handle < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    names: dict[int, str] = {}
    for path in paths:
        number = libc.inotify_add_watch(handle, os.fsencode(path), 0x20 | 0x01)  # IN_OPEN | IN_ACCESS
        if number < 0:
            raise OSError(ctypes.get_errno(), f"inotify_add_watch {path}")
        names[number] = f"{path.parent.name}/{path.name}"
    try:
        yield
    finally:
        while True:
            try:
                data = os.read(handle, 1 << 16)
            except BlockingIOError:
                break
            at = 0
            while at < len(data):
                number, _, _, length = struct.unpack_from("iIII", data, at)
                seen.append(names.get(number, "?"))
                at += 16 + length
        os.close(handle)


@dataclass
class Report:
    """All outcomes of one pass over the corpus, by (key, from memory)."""

    outcomes: dict[tuple[str, bool], dict[str, Any]] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    trace: str = ""


def _wanted(entry: Entry) -> bool:
    return FFMPEG is not None or not entry.needs_ffmpeg


def _in_memory_too(entry: Entry) -> bool:
    return entry.attack and entry.literal is None and "pattern" not in entry.key


def examine(root: Path, *, memory_all: bool = False, trace: Path | None = None) -> Report:
    """Write the corpus, open each file in a process of its own, and collect what happened."""
    listener, report = Listener(), Report()
    clip = encoded()
    jobs, decoys = [], []
    for entry in filter(_wanted, CORPUS.values()):
        source, ground = lay_out(entry, root / "files", clip, listener.port)
        decoys += ground.decoys
        report.sources[entry.key] = source
        turn = entry.frames.turn if entry.frames else (0, False)
        jobs.append(Job(entry.key, source, turn))
        regular = entry.literal is None and _is_regular(source)
        if regular and (memory_all or _in_memory_too(entry)):
            jobs.append(Job(entry.key, source, turn, from_memory=True))
    asked, answered = root / "jobs.json", root / "outcomes.jsonl"
    asked.write_text(json.dumps([asdict(job) for job in jobs]))
    command = [*HARNESS, str(asked), str(answered), "1" if trace else "2"]
    if trace:
        calls = "trace=%network,openat,open,stat,newfstatat,execve"
        command = [str(STRACE), "-f", "-qq", "-s", "400", "-e", calls, "-o", str(trace), *command]
    with watched(decoys, report.opened):
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL)
    listener.close()
    assert done.returncode == 0, done.stderr[-3000:]
    report.heard = listener.heard
    memory = iter(jobs)
    by_order: dict[str, list[dict[str, Any]]] = {}
    for line in answered.read_text().splitlines():
        row = json.loads(line)
        by_order.setdefault(row["key"], []).append(row)
    for job in memory:
        rows = [row for row in by_order[job.key] if row["from_memory"] == job.from_memory]
        report.outcomes[job.key, job.from_memory] = rows[0]
    report.trace = trace.read_text(errors="replace") if trace else ""
    return report


def _environment() -> dict[str, str]:
    """Let the harness find the product as this process does, and the corpus."""
    paths = os.pathsep.join(path for path in (str(Path(__file__).parents[1]), *sys.path) if path)
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _is_regular(source: str) -> bool:
    try:
        return Path(source).is_file() and not Path(source).is_symlink()
    except OSError as error:
        assert error.errno in {errno.ENAMETOOLONG, errno.ELOOP}
        return False


def complaints(entry: Entry, source: str, outcome: dict[str, Any], *, from_memory: bool = False) -> list[str]:
    """Say everything that is wrong with one outcome."""
    kind, detail = outcome["kind"], outcome["detail"]
    found = []
    if kind == "killed":
        found.append(f"did not end within {WALL_S:g} s")
    elif kind == "nothing":
        found.append(f"died with wait status {outcome['status']}")
    elif kind == "foreign":
        found.append(f"raised {detail['type']} instead of a TubeletError: {detail['text']}")
    elif kind == "error":
        found += _about_error(entry, source, detail, from_memory=from_memory)
    elif entry.frames is None:
        found.append(f"gave {detail['count']} frames {detail['shape']} where only an error is right")
    else:
        found += _about_frames(entry.frames, detail)
        if not entry.codes and not detail["same_backwards"]:  # how damage looks may depend on where reading began
            found.append("single frames, read backwards, have other pixels")
    if outcome["seconds"] > WALL_S:
        found.append(f"took {outcome['seconds']:.1f} s")
    if outcome["extra_mb"] > EXTRA_MB:
        found.append(f"took {outcome['extra_mb']:.0f} MB")
    if outcome["stderr"]:
        found.append(f"wrote to stderr: {outcome['stderr'][:300]!r}")
    return found + [f"held {outcome['sockets']} sockets"] * bool(outcome["sockets"])


def _about_error(entry: Entry, source: str, detail: dict[str, Any], *, from_memory: bool) -> list[str]:
    found = []
    if entry.frames is not None and not entry.codes:
        found.append(f"a right file was refused: {detail['code']}: {detail['text']}")
    elif detail["code"] not in entry.codes:
        found.append(f"code {detail['code']!r}, acceptable: {sorted(entry.codes)}: {detail['text']}")
    name = Path(source).name
    if not from_memory and not any(form in detail["text"] for form in (name, repr(name)[1:-1], ascii(name)[1:-1])):
        found.append(f"the text does not name {name!r}: {detail['text']}")
    if "\n" in detail["text"] or re.search(r"0x[0-9a-f]{6,}", detail["text"]):
        found.append(f"the text has lines or addresses: {detail['text']!r}")
    return found


def _about_frames(frames: Frames, detail: dict[str, Any]) -> list[str]:
    found = []
    shape = tuple(detail["shape"][1:3])
    if frames.height and shape != (frames.height, frames.width):
        found.append(f"frames are {shape}, not {(frames.height, frames.width)}")
    if detail["info"]["height"] != shape[0] or detail["info"]["width"] != shape[1]:
        found.append(f"info states {detail['info']['height']} x {detail['info']['width']}, frames are {shape}")
    times = np.array(detail["times_s"])
    if times.size and (times[0] != 0 or (np.diff(times) < 0).any() or not np.isfinite(times).all()):
        found.append(f"times do not rise from 0: {times.tolist()[:20]}")
    if not np.isfinite([detail["info"]["fps"], detail["info"]["duration_s"]]).all():
        found.append(f"info is not finite: {detail['info']}")
    if frames.numbers is not None and (tuple(detail["numbers"] or ()) != frames.numbers or detail["count"] != len(frames.numbers)):
        found.append(f"shows {detail['numbers']} (count {detail['count']}), not {frames.numbers}")
    if frames.times_s is not None:
        wanted = np.array(frames.times_s)
        if times.shape != wanted.shape or np.abs(times - wanted).max() > 0.0021:
            found.append(f"times are {times.round(4).tolist()[:30]}, not {wanted.tolist()[:30]}")
    if frames.color and detail["colors"]:
        left, right = detail["colors"]
        if not (left[0] > left[2] + 80 and right[2] > right[0] + 80):
            found.append(f"the left half is {left}, not red, or the right half is {right}, not blue")
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    """Examine the whole corpus once."""
    root = tmp_path_factory.mktemp("corpus")
    yield examine(root)
    shutil.rmtree(root, ignore_errors=True)


KEYS = [pytest.param(key, id=key) for key in CORPUS]


def test_corpus_is_large_and_covers_every_verdict() -> None:
    verdicts = [entry.expected for entry in CORPUS.values()]
    assert len(verdicts) >= 250
    assert min(verdicts.count(verdict) for verdict in ("frames", "error", "either")) >= 40


@pytest.mark.parametrize("key", KEYS)
def test_file_ends_in_right_frames_or_one_named_error(report: Report, key: str) -> None:
    entry = CORPUS[key]
    if not _wanted(entry):
        if os.environ.get("CI") == "true":
            pytest.fail("the ffmpeg program is missing on CI")
        pytest.skip("needs the ffmpeg program")
    assert not complaints(entry, report.sources[key], report.outcomes[key, False])


@pytest.mark.parametrize("key", [key for key, entry in CORPUS.items() if _in_memory_too(entry)])
def test_attack_from_memory_fails_as_well(report: Report, key: str) -> None:
    assert not complaints(CORPUS[key], report.sources[key], report.outcomes[key, True], from_memory=True)


def test_no_foreign_file_is_opened(report: Report) -> None:
    assert sorted(set(report.opened)) == []


def test_nothing_connects_to_the_listener(report: Report) -> None:
    assert report.heard == []


def test_watching_sees_an_opened_decoy_and_a_connection(tmp_path: Path) -> None:
    """Prove that the two tests above can fail."""
    bait, seen = tmp_path / "bait", []
    bait.write_bytes(b"secret")
    listener = Listener()
    with watched([bait], seen):
        bait.read_bytes()
        with socket.create_connection(("127.0.0.1", listener.port)) as caller:
            caller.sendall(b"GET /leak")
    listener.close()
    assert seen
    assert listener.heard == ["GET /leak"]


def _marked(trace: str) -> Iterator[tuple[str, str]]:
    """Yield each traced call with the file it belongs to (the calls before the first file are the interpreter's own)."""
    key = ""
    for line in trace.splitlines():
        mark = re.search(r'"/corpus-mark/([^"]+)"', line)
        if mark:
            key = mark[1]
        elif key:
            yield key, line


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_socket_and_no_foreign_file_under_strace(tmp_path: Path) -> None:
    if STRACE is None:
        if os.environ.get("CI") == "true":
            pytest.fail("strace is missing on CI")
        pytest.skip("needs strace")
    report = examine(tmp_path, trace=tmp_path / "trace.txt")
    network, foreign, started = [], [], []
    for key, line in _marked(report.trace):
        if re.search(r"\b(socket|bind|connect|sendto|sendmsg)\(", line):
            network.append((key, line))
        if re.search(r"\bopen(at)?\(", line) and re.search(r"secret_|bait_|referenced\.mp4|/etc/hostname|frame00\d", line):
            foreign.append((key, line))
        if "execve(" in line:
            started.append((key, line))
    assert report.trace.count("/corpus-mark/") >= len(CORPUS) - 5
    assert network == []
    assert foreign == []
    assert started == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_file_from_memory_ends_as_from_disk(tmp_path: Path) -> None:
    report = examine(tmp_path, memory_all=True)
    differences = []
    for (key, from_memory), outcome in report.outcomes.items():
        if not from_memory:
            continue
        found = complaints(CORPUS[key], report.sources[key], outcome, from_memory=True)
        disk = report.outcomes[key, False]
        if disk["kind"] != outcome["kind"] or disk["detail"].get("numbers") != outcome["detail"].get("numbers"):
            found.append(f"from disk {disk['kind']}, from memory {outcome['kind']}")
        if found:
            differences.append((key, found))
    assert differences == []


def _mutant(data: bytes, generator: random.Random) -> bytes:
    """Damage a file as fuzzers do: flip, overwrite, cut out, double, or lie in a length."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 4, 16))):
        at = generator.randrange(len(changed))
        span = generator.choice((1, 2, 4, 16, 64))
        match generator.randrange(5):
            case 0:
                changed[at] ^= 1 << generator.randrange(8)
            case 1:
                changed[at : at + span] = generator.randbytes(len(changed[at : at + span]))
            case 2 if len(changed) > 200:
                del changed[at : at + span]
            case 3:
                changed[at:at] = changed[at : at + span]
            case _:
                changed[at : at + 4] = generator.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1"))
    return bytes(changed)


def _fuzz(root: Path, each: int, start: int) -> list[tuple[str, list[str]]]:
    files = ["plain", "live_mkv", "vp8", "xvid_avi", "h264_ts", "gif", "flv"]
    loose = frozenset(error_codes())
    jobs, entries = [], {}
    for form, key in enumerate(files):
        source, _ = lay_out(CORPUS[key], root / "whole", b"", 9)
        data = Path(source).read_bytes()
        for number in range(each):
            name = f"{key}_{start + number}"
            path = root / f"{name}{Path(source).suffix}"
            path.write_bytes(_mutant(data, random.Random(1_000_003 * form + start + number)))
            entries[name] = Entry(name, path.name, CORPUS[key].make, Frames(None, 0, 0, color=False), loose)
            jobs.append(Job(name, str(path)))
    asked, answered = root / "jobs.json", root / "outcomes.jsonl"
    asked.write_text(json.dumps([asdict(job) for job in jobs]))
    subprocess.run([*HARNESS, str(asked), str(answered), "2"], env=_environment(), check=True, timeout=900)
    rows = [json.loads(line) for line in answered.read_text().splitlines()]
    sources = {job.key: job.source for job in jobs}
    judged = [(row["key"], complaints(entries[row["key"]], sources[row["key"]], row)) for row in rows]
    assert len(judged) == len(jobs)
    return [(key, found) for key, found in judged if found]


def error_codes() -> set[str]:
    """Collect the codes of all video errors; the bare parent's is too vague for a file."""
    from tubelet import errors  # noqa: PLC0415

    kinds = [getattr(errors, name) for name in errors.__all__]
    return {kind.code for kind in kinds if isinstance(kind, type) and issubclass(kind, errors.VideoError)} - {"video"}


def test_mutants_end_in_frames_or_one_named_error(tmp_path: Path) -> None:
    assert _fuzz(tmp_path, each=12, start=0) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifteen_hundred_mutants_end_in_frames_or_one_named_error(tmp_path: Path) -> None:
    assert _fuzz(tmp_path, each=215, start=1000) == []
