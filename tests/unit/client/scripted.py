"""A small HTTP server that answers what a test tells it to, over a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Request:
    method: str
    path: str
    token: str | None
    body: str
    headers: dict[str, str]


@dataclass
class Answer:
    status: int = 200
    content: object = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        if isinstance(self.content, str):
            return self.content.encode()
        return b"" if self.content is None else json.dumps(self.content).encode()


@dataclass
class ScriptedServer:
    """`answer` decides; `seen` are the requests in order."""

    url: str
    seen: list[Request]


@contextmanager
def scripted(answer: Callable[[Request], Answer]) -> Iterator[ScriptedServer]:
    seen: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            request = Request(self.command, self.path, token, body, dict(self.headers))
            seen.append(request)
            reply = answer(request)
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: pytest's output is for the tests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield ScriptedServer(f"http://127.0.0.1:{server.server_port}", seen)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
