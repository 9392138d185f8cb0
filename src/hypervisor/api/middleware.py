"""The outermost middleware: path aliases, request ids, size limit, security headers, unexpected errors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Container, Mapping

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hypervisor.api.path_aliases import API_PREFIX, canonical_path, without_prefix
from hypervisor.api.problems import render_refusal, render_unexpected
from hypervisor.errors import Unavailable
from hypervisor.infra.randomness import random_hex

MAX_BODY_BYTES = 1024 * 1024
REQUEST_ID_HEADER = "X-Request-ID"
_VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

RawHeaders = list[tuple[bytes, bytes]]

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # For responses that are not pages. A page sets its own policy.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def _raw(headers: Mapping[str, str]) -> RawHeaders:
    """The headers in the form of ASGI messages."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


_REQUEST_ID = REQUEST_ID_HEADER.lower().encode()
_HEADERS = _raw(SECURITY_HEADERS)
_API_HEADERS = _raw({**SECURITY_HEADERS, "Cache-Control": "no-store"})


class ProtocolMiddleware:
    """Wraps the whole app, so that error responses get the same headers as all others."""

    def __init__(self, app: ASGIApp, prefix: str = "") -> None:
        """`prefix` is the path under which a proxy serves the app, whether or not the proxy removes it."""
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = canonical_path(without_prefix(scope["path"], self._prefix))
        request_id = _request_id(Headers(scope=scope))
        sender = _Sender(send, request_id, path)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        inner = {**scope, "path": path, "raw_path": path.encode("utf-8", "surrogateescape")}
        try:
            await self._app(inner, _Receiver(receive), sender)
        except asyncio.CancelledError:
            if not scope["app"].state.services.stopping.is_set():
                raise
            # The shutdown has cancelled the request. The client can retry on another server.
            if not sender.started:
                await render_refusal(_stopping())(inner, receive, sender)
        except Exception as error:
            if sender.started:
                raise
            await render_unexpected(error)(inner, receive, sender)


class _Receiver:
    """Passes the body on up to the size limit, whether or not the request declares a length.

    The HTTPException reaches the error handler from every place that reads the body.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if self._size > MAX_BODY_BYTES:
                raise HTTPException(413)
        return message


class _Sender:
    """Adds the headers to a response and remembers whether it has started."""

    def __init__(self, send: Send, request_id: str, path: str) -> None:
        self._send = send
        self._request_id = request_id
        self._is_api = path.startswith(API_PREFIX)
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = list(message.get("headers", ()))
            message["headers"] = headers + self._missing({name for name, _ in headers})
        await self._send(message)

    def _missing(self, present: Container[bytes]) -> RawHeaders:
        """The request id, and the default headers that the response does not set."""
        defaults = _API_HEADERS if self._is_api else _HEADERS
        return [(_REQUEST_ID, self._request_id.encode()), *(one for one in defaults if one[0] not in present)]


def _stopping() -> Unavailable:
    return Unavailable(
        "stopping", "The server shut down before this request was finished. Check its result, or try again."
    )


def _request_id(headers: Headers) -> str:
    request_id = headers.get(REQUEST_ID_HEADER, "")
    return request_id if _VALID_REQUEST_ID.fullmatch(request_id) else random_hex(8)
