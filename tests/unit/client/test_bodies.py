"""Bodies and lists of a server that sends without end."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Event, Thread

import pytest

from hypervisor.client import Client, UnexpectedResponse, Unreachable, bodies
from tests.unit.client.scripted import Response, scripted

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def endless(body: bytes, pause: float = 0.0, head: bytes = HEAD) -> Iterator[str]:
    """The URL of a server that repeats `body` until the client goes."""
    done = Event()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            with suppress(OSError):
                self.wfile.write(head + b"\r\n")
                while not done.wait(pause):
                    self.wfile.write(body)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            done.set()
            server.shutdown()


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (b" " * 65536, HEAD),
        (b" " * 65536, HEAD.replace(b"200 OK", b"500 Wrong")),
        (gzip.compress(b" " * 1024**2), HEAD + b"Content-Encoding: gzip\r\n"),
    ],
    ids=["plain", "refusal", "compressed"],
)
def test_an_endless_body_is_refused(body: bytes, head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BYTES", 1024**2 // 2)
    with (
        endless(body, head=head) as url,
        Client(url) as client,
        pytest.raises(UnexpectedResponse, match="more than 0 MiB"),
    ):
        client.accounts.me()


def test_an_endless_refusal_of_a_stream_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BYTES", 1024**2)
    with (
        endless(b" " * 65536, head=HEAD.replace(b"200 OK", b"500 Wrong")) as url,
        Client(url) as client,
        pytest.raises(UnexpectedResponse, match="more than 1 MiB"),
    ):
        list(client.deployments.log_bytes(1))


def test_a_body_that_comes_byte_by_byte_ends_at_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.1)
    with (
        endless(b" ", pause=0.01) as url,
        Client(url) as client,
        pytest.raises(Unreachable, match="did not respond in time"),
    ):
        client.accounts.me()


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_large_page_is_read(coding: str) -> None:
    items = [{"id": number, "name": "x" * 1000} for number in range(2000)]
    page = json.dumps({"items": items}).encode()
    reply = Response(
        200, gzip.compress(page) if coding == "gzip" else page, headers={"Content-Encoding": coding}
    )
    with scripted(lambda _request: reply) as server, Client(server.url) as client:
        assert client.organizations.all() == items


@pytest.mark.parametrize("cursor", ["x", 1, True, 0, {"a": 1}, ["x"], {}], ids=repr)
def test_a_cursor_that_repeats_or_is_no_text_is_refused(cursor: object) -> None:
    page = Response(200, {"items": [], "next_cursor": cursor})
    with (
        scripted(lambda _request: page) as server,
        Client(server.url) as client,
        pytest.raises(UnexpectedResponse),
    ):
        client.organizations.all()
    assert len(server.requests) <= 2
