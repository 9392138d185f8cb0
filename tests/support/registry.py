"""A registry with one image on 127.0.0.1, where engines accept plain HTTP.

Implements the part of the OCI distribution API that a pull needs; counts pulls and can hold them back.
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_GATE_SECONDS = 120.0
_TAG = "1"


class OneImageRegistry:
    """Serves `image` from `layer` (an uncompressed tar). Clear `gate` to hold pulls until it is set."""

    def __init__(self, layer: bytes) -> None:
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        ).encode()
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _described("application/vnd.docker.container.image.v1+json", config),
                "layers": [_described("application/vnd.docker.image.rootfs.diff.tar", layer)],
            }
        ).encode()
        self.blobs = {_digest(config): config, _digest(layer): layer}
        self.gate = threading.Event()
        self.gate.set()
        self.pulls = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def image(self) -> str:
        return f"127.0.0.1:{self._server.server_port}/hv-test/pulled:{_TAG}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(registry: OneImageRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            *_, kind, reference = self.path.rsplit("/", 2)
            if self.path == "/v2/":
                self._send(200, b"{}", "application/json")
            elif kind == "manifests" and "/hv-test/pulled/" in self.path:
                registry.pulls += reference == _TAG  # later requests of the same pull go by digest
                registry.gate.wait(_GATE_SECONDS)
                self._send(200, registry.manifest, _MANIFEST)
            elif kind == "blobs" and reference in registry.blobs:
                self._send(200, registry.blobs[reference], "application/octet-stream")
            else:
                words = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
                self._send(404, json.dumps(words).encode(), "application/json")

        def _send(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", _digest(body))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """No log."""

    return Handler


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _described(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "size": len(content), "digest": _digest(content)}
