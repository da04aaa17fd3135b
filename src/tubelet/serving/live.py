"""Classify a live stream: pictures come in, the newest window of them is scored, what comes too fast is dropped."""

import asyncio
from collections import deque
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect
from torch import Tensor

from tubelet.serving.refusals import Refusal
from tubelet.serving.service import Served, Service

__all__ = ["LiveStream"]

WAITING_PICTURES = 4
"""Of one stream; older ones are dropped."""
IDLE_S = 30.0
"""Without a picture, after which a stream ends."""
TOP = 5

_UNSUPPORTED, _TRY_LATER, _NORMAL = 1003, 1013, 1000


class LiveStream:
    """Serve one websocket: JPEG pictures in, JSON out.

    Args:
        socket: accepted.
        service: decodes and scores.
        served: the model.
    """

    def __init__(self, socket: WebSocket, service: Service, served: Served) -> None:
        self.socket = socket
        self.service = service
        self.served = served
        self.dropped = 0
        self._waiting: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._window: deque[Tensor] = deque(maxlen=served.classifier.input_spec.frames)

    async def run(self) -> None:
        """Go on until one side ends it."""
        scoring = asyncio.create_task(self._score())
        receiving = asyncio.create_task(self._receive())
        try:
            await asyncio.wait({scoring, receiving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (scoring, receiving):
                task.cancel()
            ends = await asyncio.gather(scoring, receiving, return_exceptions=True)
        code = next((end for end in ends if isinstance(end, int)), None)
        if code is not None:
            await self.socket.close(code)
        for end in ends:
            is_expected = isinstance(end, asyncio.CancelledError | WebSocketDisconnect | ConnectionError | int)
            if isinstance(end, BaseException) and not is_expected:
                raise end

    async def _receive(self) -> int:
        """Take pictures, and drop the oldest where too many wait; return why the stream ends."""
        while True:
            try:
                message = await asyncio.wait_for(self.socket.receive(), IDLE_S)
            except TimeoutError:
                return _NORMAL
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", _NORMAL))
            data = message.get("bytes")
            if not data:
                return _UNSUPPORTED
            if len(self._waiting) == WAITING_PICTURES:
                self._waiting.popleft()
                self.dropped += 1
                self.service.monitor.dropped.inc()
            self._waiting.append(data)
            self._news.set()

    async def _score(self) -> int:
        """Read pictures in order; score the window whenever none waits."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                try:
                    self._window.append(await self.service.fit_picture(self.served, self._waiting.popleft()))
                except Refusal:
                    return _UNSUPPORTED
            await self.socket.send_json(await self._state())

    async def _state(self) -> dict[str, Any]:
        missing = self._window.maxlen - len(self._window) if self._window.maxlen else 0
        if missing:
            return {"missing": missing, "dropped": self.dropped}
        try:
            answer = await self.service.score_window(self.served, list(self._window), TOP)
        except Refusal:
            return {"busy": True, "dropped": self.dropped}
        return {**answer, "dropped": self.dropped}
