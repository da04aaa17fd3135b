"""Stand between the network and everything else: who may ask, how much may come, how long it may take.

The guard is the outermost layer: it knows nothing of videos, and lets nothing out but answers and fixed sentences.
"""

import asyncio
import ipaddress
import json
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tubelet.errors import ConfigError
from tubelet.serving.monitoring import Monitor
from tubelet.serving.refusals import Refusal

__all__ = ["TOKEN_PROTOCOL", "Access", "Guard", "check_address", "is_loopback"]

TOKEN_PROTOCOL = "tubelet.token."
"""Browsers give a live stream no header but this: a protocol's name that ends with the token, in hexadecimal."""

OPEN_PATHS = ("/", "/docs", "/page/", "/healthz", "/readyz")
"""What needs no token: nothing in it is secret."""

_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_LEAST_TOKEN = 16
_SEND_S = 30.0
_DRAIN_BYTES = 1_000_000
"""Read beyond the limit, so that a client that is still sending gets to read why it is refused."""

_log = logging.getLogger("tubelet.serving")


@dataclass(frozen=True)
class Access:
    """State who may ask."""

    token: str | None = None
    """What a request must show."""
    hosts: frozenset[str] = frozenset()
    """Names that the server answers to; none: any."""

    def admits(self, given: str | None) -> bool:
        """Say whether this is the token, in a time that tells nothing of it."""
        return self.token is None or secrets.compare_digest((given or "").encode(), self.token.encode())


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(host: str, token: str | None, insecure: bool, hosts: tuple[str, ...]) -> Access:
    """Decide who may ask a server at this address.

    Raises:
        ConfigError: an address that others can reach, without a token; or a token that could be guessed.
    """
    if token is not None and (len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        raise ConfigError(
            f"cannot serve with this token - it has {len(token)} characters, or some that a header cannot hold - give "
            f"at least {_LEAST_TOKEN} letters and digits; python -c 'import secrets; print(secrets.token_urlsafe())' "
            "makes one."
        )
    if is_loopback(host):
        # A page of a stranger can have its own name lead to this machine, but cannot choose what it is called by.
        return Access(token, frozenset({"localhost", "127.0.0.1", "[::1]", host, *map(str.lower, hosts)}))
    if token is None and not insecure:
        raise ConfigError(
            f"cannot serve at {host} - other machines reach it, and no token was given - set TUBELET_TOKEN (or "
            "--token), or say --insecure where whoever gets there may ask."
        )
    return Access(token, frozenset(map(str.lower, hosts)))


class Guard:
    """Let a request in where it may, count what it sends, and answer it in any case.

    Args:
        app: what answers.
        access: who may ask.
        body_bytes: of a body, at most.
        body_s: seconds that a body may take.
        monitor: is told every answer.
    """

    def __init__(self, app: ASGIApp, access: Access, body_bytes: int, body_s: float, monitor: Monitor) -> None:
        self.app = app
        self.access = access
        self.body_bytes = body_bytes
        self.body_s = body_s
        self.monitor = monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or one live stream."""
        if scope["type"] == "http":
            await _Exchange(self, scope, receive, send).run()
        elif scope["type"] == "websocket":
            try:
                self.check(scope)
            except Refusal as refusal:
                self.monitor.refusals.labels(refusal.code).inc()
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def check(self, scope: Scope) -> None:
        """Refuse whoever may not ask.

        Raises:
            Refusal: `foreign_host`, `foreign_origin`, `unauthorized`.
        """
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if self.access.hosts and name not in self.access.hosts:
            raise Refusal("foreign_host")
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host:
            raise Refusal("foreign_origin")
        if headers.get("sec-fetch-site", "same-origin") == "cross-site" and scope.get("method") != "GET":
            raise Refusal("foreign_origin")
        path = scope["path"]
        is_open = path in OPEN_PATHS or path.startswith("/page/")
        if not is_open and not self.access.admits(_find_token(headers)):
            raise Refusal("unauthorized")


def _find_token(headers: Mapping[str, str]) -> str | None:
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        name = protocol.strip()
        if name.startswith(TOKEN_PROTOCOL):
            try:
                return bytes.fromhex(name.removeprefix(TOKEN_PROTOCOL)).decode()
            except ValueError:
                return None
    return None


class _Exchange:
    """Follow one request from its head to the end of its answer."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self.guard = guard
        self.scope = scope
        self._receive = receive
        self._send = send
        self.request_id = secrets.token_hex(8)
        self.status = 0
        self.read_bytes = 0
        self.has_all = False
        self.start = time.monotonic()

    async def run(self) -> None:
        """Have it answered, or refuse it."""
        try:
            try:
                self.guard.check(self.scope)
                self._check_length()
                await self.guard.app(self.scope, self.receive, self.send)
            except Refusal as refusal:
                await self._refuse(refusal)
            except ConnectionError:
                raise
            except Exception:
                _log.exception("request %s failed", self.request_id)
                await self._refuse(Refusal("internal"))
        except (ConnectionError, TimeoutError):
            pass  # nobody is there any more, or nobody listens
        finally:
            self._note()

    def _check_length(self) -> None:
        length = Headers(scope=self.scope).get("content-length", "0")
        if not length.isdecimal() or int(length) > self.guard.body_bytes:
            raise Refusal("body_too_large")

    async def receive(self) -> Message:
        """Receive a part of the body, as long as it is neither too much nor too late.

        Raises:
            Refusal: `body_too_large`, `body_too_slow`.
        """
        if self.has_all:
            return await self._receive()
        message = await self._receive_in_time()
        if self.read_bytes > self.guard.body_bytes:
            raise Refusal("body_too_large")
        return message

    async def _receive_in_time(self) -> Message:
        try:
            left = self.start + self.guard.body_s - time.monotonic()
            message = await asyncio.wait_for(self._receive(), max(left, 0.001))
        except TimeoutError:
            raise Refusal("body_too_slow") from None
        if message["type"] == "http.disconnect":
            self.has_all = True
            raise ConnectionError("the client left")
        size = len(message.get("body", b""))
        self.read_bytes += size
        self.guard.monitor.body_bytes.inc(size)
        self.has_all = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in {**_HEADERS, "x-request-id": self.request_id}.items():
                headers.setdefault(name, value)
        await asyncio.wait_for(self._send(message), _SEND_S)

    async def _refuse(self, refusal: Refusal) -> None:
        self.guard.monitor.refusals.labels(refusal.code).inc()
        if self.status:
            return  # half an answer is out already; the connection ends with it
        body = json.dumps(refusal.to_dict(self.request_id)).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        if refusal.retry_after_s is not None:
            headers["retry-after"] = str(refusal.retry_after_s)
        if refusal.status == 401:
            headers["www-authenticate"] = "Bearer"
        if not (self.has_all or await self._drain()):
            headers["connection"] = "close"
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})

    async def _drain(self) -> bool:
        """Read on what is being sent, up to a little over what is allowed, and say whether that was all."""
        if "100-continue" in Headers(scope=self.scope).get("expect", "") and not self.read_bytes:
            return False  # it waits to hear whether it shall send at all
        try:
            while not self.has_all and self.read_bytes <= self.guard.body_bytes + _DRAIN_BYTES:
                await self._receive_in_time()
        except Refusal:
            return False
        return self.has_all

    def _note(self) -> None:
        route: Any = self.scope.get("route")
        path = getattr(route, "path", "other")
        self.guard.monitor.requests.labels(path, str(self.status)).inc()
        self.guard.monitor.seconds.labels(path).observe(time.monotonic() - self.start)
