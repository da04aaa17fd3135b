"""Unpack an archive that may be hostile, and hold what happens to the promises: nothing outside, whole or absent."""

import hashlib
import re
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tubelet.archives import Limits, unpack
from tubelet.errors import TubeletError

MOST_SECONDS = 10
DEFAULT = Limits()
MOST_MEMORY_BYTES = 256 << 20


def hash_tree(folder: Path) -> str:
    """Compute one digest of all names, kinds, permissions and contents below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
        digest.update(f"{path.relative_to(folder)}|{status.st_mode:o}|{status.st_nlink}|{content}\n".encode())
    return digest.hexdigest()


def read_tree(folder: Path) -> dict[str, bytes | None]:
    """Map each path below a folder to its content, None for a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def check_refused(archive: Path, match: str = "", limits: Limits = DEFAULT, slack_bytes: int = 0) -> str:
    """Unpack an archive that must be refused; return the message."""
    place = archive.parent
    (place / "outside").mkdir(exist_ok=True)
    (place / "outside" / "victim.txt").write_text("untouched")
    (place / "side").mkdir(exist_ok=True)
    before, target = hash_tree(place), place / "side" / "target"
    started = time.monotonic()
    with (
        bounded_memory(),
        bounded_disk(place / "side", limits, archive, slack_bytes),
        pytest.raises(TubeletError) as caught,
    ):
        unpack(archive, target, limits=limits)
    assert time.monotonic() - started < MOST_SECONDS
    assert hash_tree(place) == before
    text = str(caught.value)
    assert archive.name in text
    assert "\n" not in text
    assert len(text) < 1_500
    assert re.search(match, text), text
    return text


def measure(folder: Path) -> int:
    """Add the sizes of all files below a folder, whatever happens to them meanwhile."""
    total = 0
    try:
        for path in folder.rglob("*"):
            total += path.lstat().st_size if path.is_file() else 0
    except OSError:
        return total
    return total


@contextmanager
def bounded_disk(folder: Path, limits: Limits, archive: Path, slack_bytes: int):
    """Watch that never more lies on the disk than the limits allow."""
    allowed = min(limits.size_bytes, archive.stat().st_size * limits.ratio + limits.grace_bytes)
    peak, is_done = [0], threading.Event()

    def watch():
        while not is_done.wait(0.005):
            peak[0] = max(peak[0], measure(folder))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        is_done.set()
        watcher.join()
    assert peak[0] <= allowed + slack_bytes


@contextmanager
def bounded_memory():
    """Hold the growth of this process to a bound, where the system can tell (Linux)."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not reset.exists():
        yield
        return
    before = read_kilobytes(status, "VmRSS")
    try:
        reset.write_text("5")
    except OSError:  # Containers may forbid it.
        yield
        return
    yield
    assert (read_kilobytes(status, "VmHWM") - before) * 1024 < MOST_MEMORY_BYTES


def read_kilobytes(status: Path, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    return int(found[1])
