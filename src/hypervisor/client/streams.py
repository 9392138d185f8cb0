"""Reading server-sent events: a followed log, an organization's live history."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx2

from hypervisor.client.errors import Unreachable
from hypervisor.client.models import Event
from hypervisor.client.transport import Params, Transport

RECONNECTS = 5
RECONNECT_DELAY = 1.0
"""Seconds; a restart of the server takes a few of them."""


class LogStream:
    """The lines of a log as they are written.

    After the iteration `final_state` is that of the deployment, or None where the stream was cut off before
    the end: its server has stopped, or the login has ended. `trouble` is what the server said went wrong.
    """

    def __init__(self, transport: Transport, path: str, params: Params) -> None:
        self._transport = transport
        self._path = path
        self._params = params
        self.final_state: str | None = None
        self.trouble: str | None = None

    def __iter__(self) -> Iterator[str]:
        with self._transport.stream(self._path, params=self._params) as response:
            for sent in httpx2.EventSource(response):
                if sent.event == "end":
                    self.final_state = sent.data
                    return
                if sent.event == "error":
                    self.trouble = sent.data
                if sent.event == "log":
                    yield sent.data


def follow_events(transport: Transport, path: str, after: int | None) -> Iterator[Event]:
    """Events as they are committed, behind the event `after` (None: from now on), for ever.

    A broken connection is taken up again where it broke, a few times; then Unreachable is raised.
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
        for sent in httpx2.EventSource(response):
            if sent.data.startswith("{"):
                event: Event = json.loads(sent.data)
                yield event
