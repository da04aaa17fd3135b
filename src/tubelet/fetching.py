"""Fetch files over the network: whole and proven right, or not at all.

    https://host/file.zip --Range--> file.zip.part --size, sha256--> file.zip

What was received stays in `NAME.part` when a transfer is cut, and the next attempt, of this call or of a later one,
goes on from there, if the server still has the same file. Only what has the right size and hash gets the final name.
"""

import hashlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Literal
from urllib.parse import urlsplit

from tubelet.errors import DataError
from tubelet.files import write_json

__all__ = ["FetchError", "Remote", "check_file", "fetch"]

OnProgress = Callable[[int, int], None]
"""Called with (bytes there, bytes in all; 0 where nobody knows)."""

ATTEMPTS = 5
"""Transfers that may be cut, without a byte in between, before giving up."""
TIMEOUT_S = 30.0
"""Longest silence of a server."""
CHUNK_BYTES = 1 << 20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_NOT_SATISFIABLE = 416
_PAUSE_S = 0.5
_AGENT = "tubelet (https://pypi.org/project/tubelet)"


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

    Cost: one pass over the network, one over the disk for the hash.
    """
    folder = Path(folder)
    path = folder / remote.name
    if path.is_file():
        check_file(path, remote)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    addresses = [_join(mirror, remote.name)] if mirror else [remote.url, *remote.mirrors]
    reasons = []
    for address in addresses:
        try:
            _transfer(address, path.with_name(f"{path.name}.part"), remote, on_progress)
        except FetchError as error:
            reasons.append(f"{address}: {error}")
            continue
        path.with_name(f"{path.name}.part").replace(path)
        path.with_name(f"{path.name}.part.json").unlink(missing_ok=True)
        return path
    raise FetchError(
        f"cannot fetch {remote.name!r} - {'; '.join(reasons)} - download it by any other way and put it at "
        f"{str(path.absolute())!r}, or name an address that works with --mirror."
    )


def check_file(path: Path, remote: Remote) -> None:
    """Compare a file with what is known of it.

    Raises:
        FetchError: another size or another hash.
    """
    reason = _find_fault(path, remote)
    if reason:
        raise FetchError(f"cannot use {str(path)!r} - {reason} - remove it, and it is fetched again.")


def _find_fault(path: Path, remote: Remote) -> str:
    """Say how a file differs from what is known of it; an empty text where it does not."""
    size = path.stat().st_size
    if remote.size_bytes and size != remote.size_bytes:
        return f"it should have {remote.size_bytes:,} bytes, found {size:,}"
    for algorithm in dict.fromkeys(algorithm for algorithm, _ in remote.hashes):
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, partial(hashlib.new, algorithm, usedforsecurity=False)).hexdigest()
        if (algorithm, found) in remote.hashes:
            return ""
        wanted = " or ".join(digits[:16] for own, digits in remote.hashes if own == algorithm)
        return f"its {algorithm} should be {wanted}..., found {found[:16]}..."
    if not remote.hashes and _is_page(path):
        return "it is a web page"
    return ""


def _is_page(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(512).lstrip().lower()
    return head.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))


def _join(mirror: str, name: str) -> str:
    return f"{mirror}{name}" if mirror.endswith("/") else mirror


def _transfer(url: str, part: Path, remote: Remote, on_progress: OnProgress) -> None:
    """Bring `part` to its full length and prove it, over as many connections as it takes.

    Raises:
        FetchError: what stands in the way, without advice.
    """
    _check_address(url)
    failures, reason = 0, ""
    while failures < ATTEMPTS:
        before = part.stat().st_size if part.exists() else 0
        try:
            is_whole, reason = _receive(url, part, on_progress), "the transfer was cut"
        except (OSError, HTTPException) as error:
            is_whole, reason = False, _explain(error)
        if is_whole:
            fault = _find_fault(part, remote)
            if not fault:
                return
            part.unlink()
            raise FetchError(f"the server sent something else: {fault}")
        grown = part.exists() and part.stat().st_size > before
        failures = 0 if grown else failures + 1
        time.sleep(0 if grown else _PAUSE_S * failures)
    raise FetchError(reason)


def _check_address(url: str) -> None:
    address = urlsplit(url)
    if address.scheme == "https" or (address.scheme == "http" and address.hostname in _LOOPBACK):
        return
    raise FetchError(f"only https is fetched, and http on this machine alone - found {address.scheme}://")


class _KeepHttps(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never away from https."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request that a redirect asks for."""
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _receive(url: str, part: Path, on_progress: OnProgress) -> bool:
    """Receive what is missing of a file over one connection; tell whether it is whole now.

    Raises:
        FetchError: the server refuses.
    """
    note = part.with_name(f"{part.name}.json")
    have = part.stat().st_size if part.exists() else 0
    known = _read_note(note) if have else {}
    have = have if known.get("url") == url and known.get("version") else 0
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": str(known["version"])}
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(_KeepHttps)
    try:
        response: HTTPResponse = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _NOT_SATISFIABLE and have:
            part.unlink()
            return False
        raise FetchError(f"the server answers {error.code} {error.reason}") from None
    with response:
        return _store(response, url, part, have, on_progress)


def _store(response: HTTPResponse, url: str, part: Path, have: int, on_progress: OnProgress) -> bool:
    """Write what a response holds behind what is there; start anew where the server does."""
    start = have if response.status == 206 else 0
    version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    strong = "" if version.startswith("W/") else version
    write_json(part.with_name(f"{part.name}.json"), {"url": url, "version": strong})
    length = response.headers.get("Content-Length")
    total = start + int(length) if length and length.isdigit() else 0
    with part.open("r+b" if start else "wb") as stream:
        stream.seek(start)
        stream.truncate()
        while chunk := response.read(CHUNK_BYTES):
            stream.write(chunk)
            on_progress(stream.tell(), total)
        end = stream.tell()
    return not total or end >= total


def _read_note(path: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _explain(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    return f"{type(reason).__name__ if isinstance(reason, BaseException) else type(error).__name__}: {reason}"
