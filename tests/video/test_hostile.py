"""Open every hostile, broken and odd file of the corpus, each in a process of its own, and judge how it ended."""

import ctypes
import errno
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from video.corpus import CORPUS, FFMPEG, Entry, lay_out
from video.corpus.harness import Job
from video.corpus.judging import HARNESS, complaints, environment, on_linux
from video.corpus.pictures import encoded

STRACE = shutil.which("strace")
pytestmark = [on_linux, pytest.mark.timeout(180)]


class Listener:
    """Note what connects to a loopback port; a child that holds a socket of any kind is noted by the harness."""

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
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL
        )
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


def _is_regular(source: str) -> bool:
    try:
        return Path(source).is_file() and not Path(source).is_symlink()
    except OSError as error:
        if error.errno not in {errno.ENAMETOOLONG, errno.ELOOP}:
            raise
        return False


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


DECOY = re.compile(r"secret_|bait_|referenced\.mp4|/etc/hostname|frame00\d")


def rejoin_calls(trace: str) -> str:
    """Put calls together again that strace split because another process spoke in between."""
    lines: list[str] = []
    pending: dict[str, int] = {}
    for line in trace.splitlines():
        process, _, rest = line.partition(" ")
        if rest.endswith("<unfinished ...>"):
            pending[process] = len(lines)
            lines.append(line.removesuffix("<unfinished ...>"))
        elif "resumed>" in rest and process in pending:
            lines[pending.pop(process)] += rest.partition("resumed>")[2]
        else:
            lines.append(line)
    return "\n".join(lines)


def test_calls_that_strace_split_are_read_as_one():
    trace = (
        '7 openat(AT_FDCWD, "file:/a" <unfinished ...>\n8 stat("b") = 0\n7 <... openat resumed>, O_RDONLY) = -1 ENOENT'
    )
    assert rejoin_calls(trace) == '7 openat(AT_FDCWD, "file:/a" , O_RDONLY) = -1 ENOENT\n8 stat("b") = 0'


def _marked(trace: str) -> Iterator[tuple[str, str]]:
    """Yield each traced call with the file it belongs to; calls before the first file are the interpreter's own."""
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
    for key, line in _marked(rejoin_calls(report.trace)):
        if re.search(r"\b(socket|bind|connect|sendto|sendmsg)\(", line):
            network.append((key, line))
        if re.search(r"\bopen(at)?\(", line) and DECOY.search(line) and " = -1 " not in line:
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
    assert not differences, "\n".join(f"{key}: {found}" for key, found in differences)
