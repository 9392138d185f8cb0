"""Streams of events that no Hypervisor server sends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hypervisor.client import Client, RetryPolicy, UnexpectedResponse, Unreachable
from tests.unit.client.scripted import Response, ScriptedServer, scripted

DIGITS = "9" * 5000
STREAM = "text/event-stream"


def received(server: ScriptedServer) -> Iterator[object]:
    with Client(server.url, retry=RetryPolicy(0)) as client:
        yield from client.organizations.follow(1)


@pytest.mark.parametrize(
    "text",
    [
        "data: {bad json",
        'data: {"x":1}',
        'data: {"id":[1]}',
        'data: {"id":"a"}',
        'data: {"id":true}',
        'data: {"id":null}',
        f'data: {{"id":{DIGITS}}}',
        'data: {"a":' + "[" * 100_000,
        "id: x\ndata:",
        "id: -1\ndata:",
        "id: ²\ndata:",
        f"id: {DIGITS}\ndata:",
    ],
    ids=lambda text: text[:20],
)
def test_garbage_in_a_stream_of_events_is_an_unexpected_response(text: str) -> None:
    with scripted(lambda _request: Response(200, f"{text}\n\n", STREAM)) as server:
        with pytest.raises(UnexpectedResponse):
            list(received(server))
        assert len(server.requests) == 1


@pytest.mark.parametrize("charset", ["idna", "zlib", "undefined", "utf-16"])
def test_a_stream_is_utf_8_whatever_charset_it_names(charset: str) -> None:
    events = 'data: {"id":1,"message":"ü"}\n\n'
    with scripted(lambda _request: Response(200, events, f"{STREAM}; charset={charset}")) as server:
        found = received(server)
        assert next(found) == {"id": 1, "message": "ü"}
        with pytest.raises(Unreachable, match="the server ended the stream"):
            next(found)
