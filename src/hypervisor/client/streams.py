"""Server-sent events: live logs and live events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx2

from hypervisor.client.errors import Unreachable
from hypervisor.client.models import Event
from hypervisor.client.transport import Params, Transport
from hypervisor.kernel.log_text import LOG, MAX_EVENT_BYTES, PARTIAL, lines_of, piece_of

RECONNECTS = 5
RECONNECT_DELAY = 1.0
"""Seconds between two reconnects. A restart of the server takes a few seconds."""


class LogStream:
    """The lines of a log as they are written, of any length, without their newline.

    After the iteration, `final_state` is the state of the deployment, or None when the stream broke before
    the end: the server stopped, or the session ended. `error` is the error message of the server, if any.
    """

    def __init__(self, transport: Transport, path: str, params: Params) -> None:
        self._transport = transport
        self._path = path
        self._params = params
        self.final_state: str | None = None
        self.error: str | None = None

    def __iter__(self) -> Iterator[str]:
        return lines_of(self.pieces())

    def pieces(self) -> Iterator[str]:
        """The text in pieces, also of unfinished lines. A piece ends with a newline if its line ends."""
        with self._transport.stream(self._path, params=self._params) as response:
            is_partial = False
            for message in httpx2.EventSource(response, MAX_EVENT_BYTES):
                if message.event == "end":
                    self.final_state = message.data
                    return
                if message.event == "error":
                    self.error = message.data
                if message.event == LOG:
                    yield piece_of(message.data, partial=is_partial)
                is_partial = message.event == PARTIAL


def follow_events(transport: Transport, path: str, after: int | None) -> Iterator[Event]:
    """New events, without end, after the event with id `after`; for None, from now on.

    A broken connection is resumed after the last event, up to RECONNECTS times. Then Unreachable is raised.
    """
    last = after
    failures = 0
    while True:
        try:
            for event in _read_events(transport, path, last):
                last, failures = event["id"], 0
                yield event
        except Unreachable:
            failures += 1
            if failures > RECONNECTS:
                raise
        time.sleep(RECONNECT_DELAY)


def _read_events(transport: Transport, path: str, after: int | None) -> Iterator[Event]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    with transport.stream(path, headers=headers) as response:
        for message in httpx2.EventSource(response, max_event_size=None):
            if message.data.startswith("{"):
                event: Event = json.loads(message.data)
                yield event
