"""Server-sent events: live logs and live events."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager

import httpx2

from hypervisor.client.bodies import MAX_BYTES
from hypervisor.client.errors import ApiError, UnexpectedResponse, Unreachable
from hypervisor.client.models import Event
from hypervisor.client.outages import Outage
from hypervisor.client.records import parse_object
from hypervisor.client.states import DELETED, ENDED, OCCUPYING, WAITING
from hypervisor.client.transport import Params, Transport
from hypervisor.kernel.log_text import LOG, MAX_EVENT_BYTES, PARTIAL, POSITION, lines_of, piece_of

OVERLAP = 200
"""How many event ids before the last one a broken stream reads again."""
REMEMBERED = 1000
"""How many ids of received events are kept. More than an overlap has."""

MOST_DIGITS = 19
"""Of an id in a database."""
MOST_QUOTED = 40
"""Characters of a response in an error line."""
_ENDS = {*ENDED, *WAITING, *OCCUPYING, DELETED}


class LogStream:
    """The lines of a log as they are written, of any length, without their newline.

    A broken stream goes on where it was, see `RetryPolicy`. A refusal of the first request is raised.

    After the iteration, `final_state` is the state of the deployment, `error` an error message of the server.
    """

    def __init__(self, transport: Transport, path: str, params: Params) -> None:
        self._transport = transport
        self._path = path
        self._params = params
        self._position: str | None = None
        self._since_position = 0
        """Characters of the log after the position."""
        self.final_state: str | None = None
        self.error: str | None = None

    def __iter__(self) -> Iterator[str]:
        return lines_of(self.pieces())

    def pieces(self) -> Iterator[str]:
        """The text in pieces, also of unfinished lines. A piece ends with a newline if its line ends."""
        outage, has_begun = Outage(self._transport.retry), False
        while self.final_state is None:
            try:
                with self._open() as response:
                    has_begun = True
                    for piece in self._read(response):
                        outage.ended()
                        yield piece
                if self.final_state is None:
                    raise Unreachable(self._transport.url, "the server ended the stream")
            except (Unreachable, ApiError) as error:
                if isinstance(error, ApiError) and not has_begun:
                    raise
                outage.survive(error)

    def _open(self) -> AbstractContextManager[httpx2.Response]:
        headers = {} if self._position is None else {"Last-Event-ID": self._position}
        return self._transport.stream(self._path, params=self._params, headers=headers)

    def _read(self, response: httpx2.Response) -> Iterator[str]:
        """New pieces. Those after the position of a broken stream come again and are skipped."""
        known, is_partial = self._since_position, False
        for message in _messages(response, MAX_EVENT_BYTES):
            if message.event == "end":
                self.final_state = self._checked(message.data, message.data in _ENDS)
                return
            if message.event == "error":
                self.error = message.data
            if message.event == POSITION:
                is_sendable = message.data.isascii() and message.data.isprintable()
                self._position = self._checked(message.data, is_sendable)
                self._since_position, known = 0, 0
            if message.event == LOG:
                piece = piece_of(message.data, partial=is_partial)
                known, piece = known - min(known, len(piece)), piece[known:]
                if piece:
                    self._since_position += len(piece)
                    yield piece
            is_partial = message.event == PARTIAL

    def _checked(self, data: str, is_valid: bool) -> str:
        if not is_valid:
            raise UnexpectedResponse(self._transport.url, f"{data[:MOST_QUOTED]!r} in the stream of a log")
        return data


def follow_events(transport: Transport, path: str, after: int | None) -> Iterator[Event]:
    """New events, without end, after the event with id `after`; for None, from now on.

    A broken stream goes on after the last event, see `RetryPolicy`. A refusal of the first request is raised.
    """
    cursor = _EventCursor(after)
    outage, has_begun = Outage(transport.retry), False
    while True:
        try:
            with transport.stream(path, headers=cursor.headers) as response:
                has_begun = True
                for message in _messages(response, MAX_BYTES):
                    if message.data.startswith("{"):
                        for event in cursor.new(_event(transport.url, message.data)):
                            outage.ended()
                            yield event
                    elif message.id and not message.data:
                        cursor.begin(_event_id(transport.url, message.id))
            raise Unreachable(transport.url, "the server ended the stream")
        except (Unreachable, ApiError) as error:
            if isinstance(error, ApiError) and not has_begun:
                raise
            outage.survive(error)


def _messages(response: httpx2.Response, max_bytes: int) -> Iterator[httpx2.ServerSentEvent]:
    # Always UTF-8, whatever charset the response names.
    response.encoding = "utf-8"
    return iter(httpx2.EventSource(response, max_bytes))


def _event(url: str, data: str) -> Event:
    event = parse_object(url, data)
    if type(event["id"]) is not int:
        raise UnexpectedResponse(url, "the id of an event is no number")
    found: Event = event  # type: ignore[assignment]
    return found


def _event_id(url: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
        raise UnexpectedResponse(url, f"{text[:MOST_QUOTED]!r} is no id of an event")
    return int(text)


class _EventCursor:
    """The events that were received.

    On PostgreSQL an event with a lower id may become visible after one with a higher id. So a broken stream
    goes on a little before its last event, and what was received is left out.
    """

    def __init__(self, after: int | None) -> None:
        self._after = after
        self._newest = after or 0
        self._received: deque[int] = deque(maxlen=REMEMBERED)

    @property
    def headers(self) -> dict[str, str]:
        if self._after is None:
            return {}
        return {"Last-Event-ID": str(max(self._after, self._newest - OVERLAP))}

    def begin(self, event_id: int) -> None:
        """The server's newest event at the begin of a stream without `after`."""
        if self._after is None:
            self._after = self._newest = event_id

    def new(self, event: Event) -> Iterator[Event]:
        """The event, unless it was received before."""
        if event["id"] not in self._received:
            self._received.append(event["id"])
            self._newest = max(self._newest, event["id"])
            yield event
