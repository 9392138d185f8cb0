"""HEAD on every path that has GET: the same status and headers, without a body."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadRequests:
    """Serves HEAD as GET up to the headers. A stream of events ends there instead of holding the client."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        head = _Head(send)
        scope["method"] = "GET"  # in place: the middleware outside reads the route from this scope
        try:
            await self._app(scope, head.receive, head.send)
        finally:
            scope["method"] = "HEAD"


class _Head:
    """The headers of a response. Then the app observes a client that has disconnected."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._requested = False
        self._started = asyncio.Event()

    async def receive(self) -> Message:
        if not self._requested:
            self._requested = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._started.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(message)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            self._started.set()
