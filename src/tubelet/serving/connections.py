"""Listen: connections that end when nothing comes, and a stop that lets everybody finish."""

import asyncio
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Listener", "TimedConnection"]

_HEAD_BYTES = 32 << 10
_MESSAGE_BYTES = 1 << 20
_STOP_S = 30


class TimedConnection(H11Protocol):
    """Close a connection on which no whole head of a request arrives in time; the protocol below waits for ever."""

    head_s = 30.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._timer = self.loop.call_later(self.head_s, self._expire)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._timer.cancel()
        self._timer = self.loop.call_later(self.head_s, self._expire)
        super().on_response_complete()

    def _expire(self) -> None:
        is_ours = self.transport.get_protocol() is self  # and not a live stream's by now
        if is_ours and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()


class Listener(uvicorn.Server):
    """Listen until a signal says stop; then take no one new, and leave with status 0 once all are done.

    Args:
        app: what answers.
        host: address; port 0 takes any that is free.
        port: number.
        head_s: seconds for the head of a request.
        on_start: told the port once it listens.
        on_stop: told of the signal at once.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        head_s: float,
        on_start: Callable[[int], None],
        on_stop: Callable[[], None],
    ) -> None:
        connection = type("Connection", (TimedConnection,), {"head_s": head_s})
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="asyncio",  # the same everywhere, whatever else is installed
            http=connection,
            ws="websockets-sansio",
            ws_max_size=_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            h11_max_incomplete_event_size=_HEAD_BYTES,
            timeout_graceful_shutdown=_STOP_S,
            proxy_headers=False,
            server_header=False,
            access_log=False,
            log_level="warning",
        )
        super().__init__(config)
        self._on_start = on_start
        self._on_stop = on_stop

    async def startup(self, sockets: Any = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            self._on_start(self.servers[0].sockets[0].getsockname()[1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the parent's
        """Stop; a second signal does not wait for anybody."""
        # Not the parent's, which ends the program by the same signal afterwards: a stop that was asked for is no error.
        self._on_stop()
        self.force_exit, self.should_exit = self.should_exit, True
