"""A reverse proxy that serves a server under a path, in threads of this process."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

_OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@contextmanager
def path_proxy(prefix: str, upstream: str, *, port: int, strips: bool, passes_host: bool) -> Iterator[None]:
    """Serve `upstream` below `prefix` on 127.0.0.1:`port`; any other path is a 404 of the proxy.

    `strips`: the upstream gets paths without the prefix. `passes_host`: it gets the browser's Host header,
    else its own address, as from nginx without `proxy_set_header Host`.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            if not f"{self.path}/".startswith((f"{prefix}/", f"{prefix}?")):
                self.send_error(404, "not below the prefix")
                return
            path = (self.path[len(prefix) :] or "/") if strips else self.path
            headers = dict(self.headers.items())
            if not passes_host:
                headers["Host"] = urlsplit(upstream).netloc
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with closing(http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=30)) as connection:
                connection.request(self.command, path, body or None, headers)
                response = connection.getresponse()
                self._answer(response, response.read())

        def _answer(self, response: http.client.HTTPResponse, content: bytes) -> None:
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in _OF_ONE_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _forward

        def log_message(self, *_arguments: object) -> None:
            """No lines on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
