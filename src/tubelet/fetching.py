"""Fetch files over the network: whole and proven right, or not at all.

    https://host/file.zip --Range--> file.zip.part --size, sha256--> file.zip

What was received stays in `NAME.part` when a transfer is cut, and the next attempt, of this call or of a later one,
goes on from there, if the server still has the same file. Only what has the right size and hash gets the final name.
Of several processes that want the same file one fetches it, and the others wait.
"""

import errno
import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from tubelet.errors import DataError
from tubelet.files import DiskFull, write_json

__all__ = ["FetchError", "Remote", "check_file", "fetch"]

OnProgress = Callable[[int, int], None]
"""Called with (bytes there, bytes in all; 0 where nobody knows)."""

ATTEMPTS = 5
"""Transfers that may be cut, without a byte in between, before giving up."""
TIMEOUT_S = 30.0
"""Longest silence of a server."""
CHUNK_BYTES = 1 << 20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PARTIAL = 206
_NOT_SATISFIABLE = 416
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers that mean: later."""
PAUSE_S = 0.5
"""Pause after the first failure; longer after each further one."""
_PAGES = (".html", ".htm", ".xml", ".svg")
_AGENT = "tubelet"


class FetchError(DataError):
    """Report a file that could not be fetched, with what to do instead."""

    code = "fetch"


@dataclass(frozen=True)
class Remote:
    """State where a file is, and how to know it."""

    url: str
    """https address; http on this machine alone."""
    name: str
    """What it is called here."""
    hashes: tuple[tuple[Literal["md5", "sha256"], str], ...] = ()
    """Algorithm and hexadecimal digits of each version that is right; empty where nobody published any."""
    size_bytes: int = 0
    """0 where nobody published it."""
    mirrors: tuple[str, ...] = ()
    """Other addresses of the same file, tried in order."""


def fetch(
    remote: Remote,
    folder: str | Path,
    *,
    mirror: str | None = None,
    on_progress: OnProgress = lambda _have, _total: None,
) -> Path:
    """Fetch a file into a folder, unless it lies there already and is right.

    Args:
        remote: where it is, and how to know it.
        folder: where it goes, made if need be.
        mirror: an address to fetch from instead: of the file itself, or of a folder (ending in `/`) that holds it.
        on_progress: told of every chunk.

    Returns:
        Where the file lies.

    Raises:
        FetchError: no connection, no such file, a web page in its place, too short, or of another content; says which
            file to put where.
        DiskFull: no room; what was received stays for the next attempt.

    Cost: one pass over the network, one over the disk for the hash.
    """
    path = Path(folder) / remote.name
    part = path.with_name(f"{path.name}.part")
    if _is_there(path, remote):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _own(part):
            # Another process may have fetched it meanwhile.
            reasons = [] if _is_there(path, remote) else _try_all(remote, mirror, part, on_progress)
            if not reasons and not path.exists():
                part.replace(path)
            elif not reasons or part.stat().st_size == 0:
                part.unlink()
            if not part.exists():
                _name_note(part).unlink(missing_ok=True)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull(
                f"cannot fetch {remote.name!r} - {error.strerror} - free some room, and it goes on."
            ) from error
        reasons = [_explain(error)]
    if not reasons:
        return path
    raise FetchError(
        f"cannot fetch {remote.name!r} - {'; '.join(reasons)} - download it by any other way and put it at "
        f"{str(path.absolute())!r}, or name an address that works with --mirror."
    )


def _try_all(remote: Remote, mirror: str | None, part: Path, on_progress: OnProgress) -> list[str]:
    """Fetch from the first address that has it; return why the others have not, nothing where one has."""
    reasons = []
    for address in [_join(mirror, remote.name)] if mirror else [remote.url, *remote.mirrors]:
        try:
            _transfer(address, part, remote, on_progress)
        except FetchError as error:
            reasons.append(f"{address}: {error}")
        else:
            return []
    return reasons


def check_file(path: Path, remote: Remote) -> None:
    """Compare a file with what is known of it.

    Raises:
        FetchError: another size or another hash.
    """
    reason = _find_fault(path, remote)
    if reason:
        raise FetchError(f"cannot use {str(path)!r} - {reason} - remove it, and it is fetched again.")


def _is_there(path: Path, remote: Remote) -> bool:
    if path.is_file():
        check_file(path, remote)
        return True
    if path.exists():
        raise FetchError(f"cannot use {str(path)!r} - it is no file - remove it, and it is fetched again.")
    return False


def _find_fault(path: Path, remote: Remote) -> str:
    """Say how a file differs from what is known of it; an empty text where it does not."""
    size = path.stat().st_size
    if remote.size_bytes and size != remote.size_bytes:
        return f"it should have {remote.size_bytes:,} bytes, found {size:,}"
    found = {}
    for algorithm in {algorithm for algorithm, _ in remote.hashes}:
        with path.open("rb") as stream:
            # hashlib.new is asked for by name: md5 proves that nothing was altered by accident, not who wrote it.
            found[algorithm] = hashlib.file_digest(
                stream, partial(hashlib.new, algorithm, usedforsecurity=False)
            ).hexdigest()
    if remote.hashes and not any(found[algorithm] == digits.lower() for algorithm, digits in remote.hashes):
        wanted = " or ".join(f"{algorithm} {digits[:16]}..." for algorithm, digits in remote.hashes)
        return f"it should have {wanted}, found {', '.join(f'{name} {own[:16]}...' for name, own in found.items())}"
    if not (remote.hashes or remote.name.lower().endswith(_PAGES)) and _is_page(path):
        return "it is a web page"
    return ""


def _is_page(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))


def _join(mirror: str, name: str) -> str:
    return f"{mirror}{quote(name)}" if mirror.endswith("/") else mirror


@contextmanager
def _own(part: Path) -> Iterator[None]:
    """Wait until no other process fetches the same file, and hold it."""
    if sys.platform == "win32":  # There an open file cannot be replaced, so the second process fails.
        part.touch()
        yield
        return
    import fcntl

    while True:
        with part.open("ab") as stream:
            with suppress(OSError):  # Some network disks know no locks.
                fcntl.flock(stream, fcntl.LOCK_EX)
            # Who held it before may have given this very file its final name.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(stream.fileno()), part.stat()):
                    yield
                    return


def _transfer(url: str, part: Path, remote: Remote, on_progress: OnProgress) -> None:
    """Bring `part` to its full length and prove it, over as many connections as it takes.

    Raises:
        FetchError: what stands in the way, without advice.
        OSError: the disk is full, or refuses.
    """
    _check_address(url)
    failures, most, has_restarted, reason = 0, part.stat().st_size, False, ""
    while failures < ATTEMPTS:
        time.sleep(PAUSE_S * failures)
        before = part.stat().st_size
        try:
            is_whole, reason = _receive(url, part, remote, on_progress), "the transfer was cut"
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, OSError) and (error.filename or error.errno in _NO_ROOM):
                raise
            is_whole, reason = False, _explain(error)
        if is_whole:
            fault = _find_fault(part, remote)
            if not fault:
                return
            reason = f"the server sent something else: {fault}"
            os.truncate(part, 0)
            # What was put together over several connections may be at fault, not the server: once more from the start.
            if has_restarted or not before:
                break
            has_restarted, most = True, 0
        # Only more than ever before counts as progress, or a server that changes its mind could keep us for ever.
        failures = 0 if part.stat().st_size > most else failures + 1
        most = max(most, part.stat().st_size)
    raise FetchError(reason)


def _check_address(url: str, came_from: str = "http") -> None:
    try:
        address = urlsplit(url)
    except ValueError as error:
        raise FetchError(f"this is no address: {error}") from None
    if address.scheme == "https" or (address.scheme == came_from == "http" and address.hostname in _LOOPBACK):
        return
    raise FetchError(f"only https is fetched, and http on this machine alone - found {address.scheme}://")


class _KeepHttps(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never away from https."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request that a redirect asks for."""
        try:
            _check_address(newurl, came_from=req.type)
        except FetchError as error:
            fp.close()
            raise FetchError(f"the server sends us to {newurl}: {error}") from None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(url: str, part: Path, remote: Remote, on_progress: OnProgress) -> bool:
    """Receive what is missing of a file over one connection; tell whether it is whole now.

    Raises:
        FetchError: the server refuses, or has something else.
    """
    have = part.stat().st_size
    known = _read_note(part) if have else {}
    version = str(known.get("version") or "") if known.get("url") == url else ""
    have = have if version else 0
    if have and have == known.get("total"):
        return True
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    opener = urllib.request.build_opener(_KeepHttps)
    try:
        response: HTTPResponse = opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _NOT_SATISFIABLE and have:
            os.truncate(part, 0)
            return False
        said = _tidy(f"the server answers {error.code} {error.reason}")
        raise (ConnectionError(said) if error.code in _PASSING else FetchError(said)) from None
    with response:
        start = have if response.status == _PARTIAL else 0
        if start and not _continues(response, start, version):
            os.truncate(part, 0)
            return False
        return _store(response, url, part, start, remote, on_progress)


def _continues(response: HTTPResponse, start: int, version: str) -> bool:
    """Tell whether a part of a file is the one that was asked for, of the version that was asked for."""
    span = response.headers.get("Content-Range") or ""
    return span.startswith(f"bytes {start}-") and _read_version(response) in (version, "")


def _read_version(response: HTTPResponse) -> str:
    tag = response.headers.get("ETag") or ""
    # A weak tag says that the meaning is the same, not the bytes.
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified") or ""


def _check_response(response: HTTPResponse, remote: Remote, total: int) -> None:
    """Refuse what cannot be the file, before it takes the place of what was received.

    Raises:
        FetchError: what it is instead.
    """
    if response.headers.get_content_type() == "text/html" and not remote.name.lower().endswith(_PAGES):
        raise FetchError("the server answers with a web page")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise FetchError(f"the server packs it, by {response.headers['Content-Encoding']}, unasked")
    if total and remote.size_bytes and total != remote.size_bytes:
        raise FetchError(f"it should have {remote.size_bytes:,} bytes, the server has {total:,}")
    if not (response.headers.get("Content-Length") or response.chunked or remote.size_bytes or remote.hashes):
        raise FetchError("nobody says how long it is, so a cut transfer could not be told from a whole one")


def _store(response: HTTPResponse, url: str, part: Path, start: int, remote: Remote, on_progress: OnProgress) -> bool:
    """Write what a response holds from a place on; tell whether the file is whole now."""
    length = response.headers.get("Content-Length") or ""
    total = start + int(length) if length.isdigit() else 0
    _check_response(response, remote, total)
    total = total or remote.size_bytes
    with part.open("r+b") as stream:
        stream.truncate(start)
        stream.seek(start)
        write_json(_name_note(part), {"url": url, "version": _read_version(response), "total": total})
        while chunk := response.read(CHUNK_BYTES):
            stream.write(chunk)
            on_progress(stream.tell(), total)
        end = stream.tell()
        stream.flush()
        os.fsync(stream.fileno())
    return end >= total


def _name_note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        content = json.loads(_name_note(part).read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _explain(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    return _tidy(f"{type(reason if isinstance(reason, BaseException) else error).__name__}: {reason}")


def _tidy(said: str) -> str:
    """Make one short line of what a server may have said."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(said.split()))[:200]
